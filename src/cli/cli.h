/* The command line: verbs in one table (cli/cli.c), each with its options as a table. */
#pragma once

/* Returns the process's exit status: 0 ok, 1 failed, 2 usage, 3 not possible on this host. */
int cli_main(int argc, char **argv);
