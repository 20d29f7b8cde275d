"""python.py N: N rounds of what Python programs do: objects, dictionaries, strings, sorting, closures, exceptions, arithmetic."""
import re
import sys
import time


class Account:
    def __init__(self, number):
        self.number = number
        self.balance = 0

    def pay(self, amount):
        if amount > self.balance + 100:
            raise ValueError(amount)
        self.balance -= amount

    def take(self, amount):
        self.balance += amount


def objects():
    accounts = [Account(i) for i in range(50)]
    refused = 0
    for i in range(1000):
        payer, payee, amount = accounts[i % 50], accounts[i * 7 % 50], i % 130
        try:
            payer.pay(amount)
            payee.take(amount)
        except ValueError:
            refused += 1
    return refused


def words():
    text = " ".join(f"word{i * i % 97}" for i in range(800))
    count = {}
    for word in text.split():
        count[word] = count.get(word, 0) + 1
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    return sorted(count.items(), key=lambda item: (-item[1], item[0]))[:10], sum(numbers)


def sieve(limit=3000):
    prime = [True] * limit
    for i in range(2, int(limit ** 0.5) + 1):
        if prime[i]:
            for j in range(i * i, limit, i):
                prime[j] = False
    return sum(prime) - 2


def queens(size=5):
    def place(row, columns, left, right):
        if row == size:
            return 1
        return sum(
            place(row + 1, columns | {c}, left | {row + c}, right | {row - c})
            for c in range(size) if c not in columns and row + c not in left and row - c not in right
        )
    return place(0, frozenset(), frozenset(), frozenset())


def mandelbrot(size=12):
    inside = 0
    for y in range(size):
        for x in range(size):
            c = complex(3 * x / size - 2, 2 * y / size - 1)
            z = 0j
            for _ in range(30):
                z = z * z + c
                if abs(z) > 2:
                    break
            else:
                inside += 1
    return inside


def main():
    rounds = int(sys.argv[1])
    started = time.monotonic()
    for _ in range(rounds):
        objects(), words(), sieve(), queens(), mandelbrot()
    print(f"{(time.monotonic() - started) / rounds:.6e}")


main()
