"""A tree of files of all kinds, and what happens to it between two sends."""

import os

KIB, MIB = 1 << 10, 1 << 20
ODD = ["with space", "ümlaut", "日本", "quote'", "semi;colon", "dollar$", "star*", "-dash", "émoji🙂", "tab_", "hash#", "a" * 200]
PER_FOLDER = 100


def make(top, files, chance):
    """Makes it; says what it is of."""
    os.makedirs(top)
    total, links = 0, 0
    for number in range(files):
        place = number // PER_FOLDER
        folder = os.path.join(top, f"part{place // 20:03}", f"{ODD[place % len(ODD)]} {place:04}")
        if number % PER_FOLDER == 0:
            os.makedirs(folder)
        path = os.path.join(folder, f"{ODD[number % len(ODD)][:20]}{number:06}.dat")
        before = os.path.join(folder, name_of(number - 1))
        if number % 97 == 5 and os.path.isfile(before) and not os.path.islink(before):
            # Written before, in the same folder.
            os.link(before, path)
            links += 1
        elif number % 89 == 7:
            os.symlink(name_of(number - 1), path)
            links += 1
        elif number % 5000 == 11:
            sparse(path, chance)
        else:
            length = length_of(number, chance)
            with open(path, "wb") as file:
                file.write(chance.randbytes(length))
            total += length
            os.chmod(path, chance.choice([0o644, 0o600, 0o755, 0o640]))
        if not os.path.islink(path):
            os.utime(path, ns=(0, chance.randrange(10**18, 17 * 10**17)))
    for number in range(50):
        os.makedirs(os.path.join(top, "hollow", f"{number:02}"))
    return f"{files} files of {total // MIB} MiB, {links} of them links, with sparse ones and empty folders"


def name_of(number):
    return f"{ODD[number % len(ODD)][:20]}{number:06}.dat"


def length_of(number, chance):
    if number % 1000 == 500:
        return 4 * MIB
    if number % 100 == 50:
        return 300 * KIB
    return chance.randrange(0, 8 * KIB)


def sparse(path, chance):
    with open(path, "wb") as file:
        file.truncate(16 * MIB)
        file.seek(5 * MIB)
        file.write(chance.randbytes(64 * KIB))


def change(top, places, chance):
    """Changes the tree in so many places; the names that are gone, below `top`."""
    found = sorted(os.path.join(folder, name) for folder, _, names in os.walk(top) for name in names)
    plain = [path for path in found if not os.path.islink(path) and os.stat(path).st_nlink == 1]
    # Those that a change of some bytes spares something.
    long = [path for path in plain if os.path.getsize(path) > 256 * KIB]
    led_to = {os.path.join(os.path.dirname(path), os.readlink(path)) for path in found if os.path.islink(path)}
    gone = []
    ways = [append, insert, rewrite, rename, chmod, delete]
    for number, path in enumerate(chance.sample([path for path in plain if path not in led_to], places)):
        way = ways[number % len(ways)]
        if way in (append, insert, rewrite) and number % 12 < 6 and long:
            path = long.pop(chance.randrange(len(long)))
        if os.path.exists(path) and way(path, chance):
            gone.append(os.path.relpath(path, top))
    return gone


def append(path, chance):
    with open(path, "ab") as file:
        file.write(chance.randbytes(100))


def insert(path, chance):
    with open(path, "rb") as file:
        old = file.read()
    with open(path, "wb") as file:
        file.write(chance.randbytes(50) + old)


def rewrite(path, chance):
    length = os.path.getsize(path)
    with open(path, "r+b") as file:
        file.seek(length // 2)
        file.write(chance.randbytes(min(100, length - length // 2)))


def rename(path, _chance):
    os.rename(path, f"{path}.renamed")
    return True


def chmod(path, _chance):
    os.chmod(path, os.stat(path).st_mode ^ 0o044)


def delete(path, _chance):
    os.remove(path)
    return True
