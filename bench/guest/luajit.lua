-- luajit.lua N: N rounds of what the trace compiler is good at (floats, arrays) and of what it is less good at (strings,
-- tables, closures, coroutines).
local ffi = require("ffi")
ffi.cdef([[
	typedef struct { long sec, nsec; } timespec;
	int clock_gettime(int clock, timespec *t);
]])

local function now()
	local t = ffi.new("timespec")
	ffi.C.clock_gettime(1, t) -- CLOCK_MONOTONIC
	return tonumber(t.sec) + tonumber(t.nsec) * 1e-9
end

local function spectral(n)
	local function a(i, j)
		return 1 / ((i + j) * (i + j + 1) / 2 + i + 1)
	end
	local v, sum = {}, 0
	for i = 0, n - 1 do
		v[i] = 1
	end
	for i = 0, n - 1 do
		local s = 0
		for j = 0, n - 1 do
			s = s + a(i, j) * v[j]
		end
		sum = sum + s * s
	end
	return math.sqrt(sum)
end

local function flips(n)
	local p, best = {}, 0
	for start = 1, 200 do
		for i = 1, n do
			p[i] = (i * 7 + start * 3) % n + 1
		end
		local count = 0
		while p[1] ~= 1 and count < 60 do
			local first = p[1]
			for i = 1, math.floor(first / 2) do
				p[i], p[first + 1 - i] = p[first + 1 - i], p[i]
			end
			count = count + 1
		end
		best = math.max(best, count)
	end
	return best
end

local function texts(n)
	local parts, seen = {}, {}
	for i = 1, n do
		local word = "w" .. (i * 37 % 101)
		seen[word] = (seen[word] or 0) + 1
		parts[#parts + 1] = word:upper()
	end
	return #table.concat(parts, " "):gsub("W1", "x"), seen
end

local function tree(depth)
	return depth == 0 and {} or { tree(depth - 1), tree(depth - 1) }
end

local function numbers(n)
	local sum = 0
	for value in coroutine.wrap(function()
		for i = 1, n do
			coroutine.yield(i)
		end
	end) do
		sum = sum + value
	end
	return sum
end

local rounds = assert(tonumber(arg[1]))
local started = now()
for _ = 1, rounds do
	spectral(300)
	flips(9)
	texts(3000)
	tree(11)
	numbers(3000)
end
print(string.format("%.6e", (now() - started) / rounds))
