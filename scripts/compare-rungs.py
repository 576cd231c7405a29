"""usage: compare-rungs.py NAME MAPPED.tar SINGLE.tar

Compares two root file systems and prints a line of the table of scripts/compare-rungs, and each
difference. Ends with 1 when there is one."""

import difflib
import fnmatch
import hashlib
import sys
import tarfile

# Contents that differ from build to build, whoever builds.
CONTENTS = [
    ("var/log/*", "times"),
    ("var/cache/*", "times, and databases in the order of the directory"),
    ("var/lib/apt/*", "times"),
    ("var/lib/dpkg/info/*.list", "no order is promised"),
    ("etc/ssh/ssh_host_*", "keys"),
    ("home/remote/.ssh/*", "keys"),
    ("etc/ssl/private/*", "keys"),
    ("etc/ssl/certs/ssl-cert-snakeoil.pem", "a certificate of such a key"),
    ("etc/machine-id", "random"),
    ("var/lib/dbus/machine-id", "random"),
    ("etc/shadow*", "salts"),
    ("var/lib/postgresql/*", "a database: identifiers and times"),
    ("var/lib/systemd/*", "random seeds, times"),
    ("*.pyc", "times of sources"),
    ("*/RECORD", "sums of such files"),
    ("*/.git/index", "times"),
    ("*/.git/logs/*", "times"),
    ("*/.git/refs/*", "commits have times"),
    ("*/.git/*HEAD", "commits have times"),
    ("*/.git/*refs", "commits have times"),
    ("var/spool/cron/crontabs/*", "times in comments"),
    ("run/*", "numbers of processes"),
    ("var/lib/redis/*", "a database with times"),
    ("etc/resolv.conf", "the host's, while the step ran"),
]

# Paths whose names are made from their contents.
NAMES = [
    ("*/.git/objects/*", "commits have times"),
    ("var/lib/postgresql/*/base/pgsql_tmp*", "numbers of processes"),
]


def masked(patterns, path):
    return any(fnmatch.fnmatch(path, pattern) for pattern, _ in patterns)


def read(path):
    tree, links = {}, {}
    with tarfile.open(path, errors="surrogateescape") as archive:
        for member in archive:
            name = member.name.removeprefix("./").rstrip("/")
            if masked(NAMES, name):
                continue
            if member.islnk():
                links.setdefault(member.linkname.removeprefix("./"), []).append(name)
                continue
            attributes = {
                key: value for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr.")
            }
            entry = {
                "type": member.type,
                "mode": oct(member.mode),
                "owner": (member.uid, member.gid),
                "attributes": attributes,
            }
            if member.issym():
                entry["target"] = member.linkname
            if member.ischr() or member.isblk():
                entry["device"] = (member.devmajor, member.devminor)
            if member.isfile() and not masked(CONTENTS, name):
                data = archive.extractfile(member).read()
                entry["contents"] = (len(data), hashlib.sha256(data).hexdigest()[:16])
                if len(data) < 1 << 20 and b"\0" not in data:
                    entry["contents"] = data.decode(errors="backslashreplace").splitlines()
            tree[name] = entry
    # The name under which a file is stored is that of whichever link was read first.
    for first, others in links.items():
        names = sorted([first, *others])
        for name in names:
            tree[name] = tree[first] | {"links": names}
    return tree


def main():
    name, mapped, single = sys.argv[1], read(sys.argv[2]), read(sys.argv[3])
    if "etc" not in mapped:
        # Made by root of the host, without the rest of an image.
        single = {path: entry for path, entry in single.items() if path.startswith("srv/made")}
        mapped.pop("srv", None)
        # GNU tar forgets hard links of devices.
        for entry in [*mapped.values(), *single.values()]:
            entry.pop("links", None)
    differences = []
    for path in sorted(mapped.keys() | single.keys()):
        one, other = mapped.get(path), single.get(path)
        if one == other:
            continue
        if one is None or other is None:
            differences.append(f"{path}: only {'single' if one is None else 'mapped'}")
            continue
        for key in sorted(one.keys() | other.keys()):
            if one.get(key) == other.get(key):
                continue
            if isinstance(one.get(key), list) and isinstance(other.get(key), list) and key == "contents":
                changed = list(difflib.unified_diff(one[key], other[key], n=0, lineterm=""))
                differences.append("\n        ".join([f"{path}: contents", *changed[2:120]]))
            else:
                differences.append(f"{path}: {key} {one.get(key)} | {other.get(key)}")
    print(f"{name:16} | {len(mapped.keys() | single.keys()):7} | {len(differences)}", flush=True)
    for difference in differences[:200]:
        print("   ", difference.encode(errors="backslashreplace").decode(errors="backslashreplace"))
    sys.exit(bool(differences))


main()
