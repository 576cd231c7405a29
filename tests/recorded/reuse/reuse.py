"""Makes files, gives them away, removes them and makes others, faster than the clock ticks."""
import os

makers = [
    lambda name: os.symlink("x", name),
    lambda name: os.mkfifo(name),
    lambda name: open(name, "w").close(),
    lambda name: os.mkdir(name),
]
seen = []
for turn in range(40):
    for first, make in enumerate(makers):
        for second, make_next in enumerate(makers):
            name = f"{turn}-{first}-{second}"
            make(name)
            os.chown(name, 33, 44, follow_symlinks=False)
            (os.rmdir if first == 3 else os.unlink)(name)
            make_next(name)
            stat = os.lstat(name)
            seen.append((name, stat.st_uid, stat.st_gid))
wrong = [entry for entry in seen if entry[1:] != (0, 0)]
open("seen", "w").write(f"{wrong}\n")
