"""Ways to make files that shells do not go."""
import ctypes
import os
import socket
import struct
import threading

libc = ctypes.CDLL(None, use_errno=True)


def openat2(path, flags, mode, resolve, directory=-100):
    how = struct.pack("QQQ", flags, mode, resolve)
    fd = libc.syscall(437, directory, path.encode(), how, len(how))
    return fd if fd >= 0 else -ctypes.get_errno()


def show(*names):
    for name in names:
        try:
            stat = os.lstat(name)
            print(name, stat.st_uid, stat.st_gid, oct(stat.st_mode), stat.st_nlink)
        except OSError as error:
            print(name, error.errno)


def as_user(uid, gid, work):
    pid = os.fork()
    if pid == 0:
        os.setgroups([gid, 50])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def unnamed():
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
    print(os.fstat(fd).st_uid)
    os.link(f"/proc/self/fd/{fd}", "linked", follow_symlinks=True)


def opens():
    os.close(openat2("how", os.O_CREAT | os.O_WRONLY, 0o600, 0))
    print(openat2("how", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600, 0))
    os.close(openat2("beneath", os.O_CREAT | os.O_WRONLY, 0o600, 8))
    here = os.open(".", os.O_PATH)
    os.close(openat2("/in-root", os.O_CREAT | os.O_WRONLY, 0o600, 16, here))
    print(openat2("../escaped", os.O_CREAT | os.O_WRONLY, 0o600, 8))
    os.symlink("behind-link", "dangling")
    os.close(os.open("dangling", os.O_CREAT | os.O_WRONLY, 0o600))
    os.symlink("/srv/c/behind-absolute", "dangling2")
    os.close(os.open("dangling2", os.O_CREAT | os.O_WRONLY, 0o600))
    os.close(os.open(f"/proc/self/fd/{here}/behind-fd", os.O_CREAT | os.O_WRONLY, 0o600))
    os.close(os.open("/proc/self/cwd/behind-cwd", os.O_CREAT | os.O_WRONLY, 0o600))
    os.close(os.open(f"/dev/fd/{here}/behind-dev-fd", os.O_CREAT | os.O_WRONLY, 0o600))
    os.mkdir("/proc/self/cwd/directory-behind-cwd")
    os.close(os.open("roots", os.O_PATH | os.O_CREAT))
    os.mkdir("trailing/")
    os.mkfifo("fifo")
    os.mknod("node", 0o100644)
    sockets = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    sockets[0].bind("socket")
    thread = threading.Thread(target=lambda: sockets[1].bind("socket-of-thread"))
    thread.start()
    thread.join()
    sockets[0].listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect("socket")
    print(struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:])
    groups = client.getsockopt(socket.SOL_SOCKET, 59, 64)
    print([struct.unpack_from("I", groups, at)[0] for at in range(0, len(groups), 4)])
    print(struct.unpack("3i", socket.socketpair()[0].getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:])


def through_descriptors():
    for name in ("by-proc", "by-dev", "by-thread", "by-empty"):
        open(name, "w").close()
    fd = os.open("by-proc", os.O_RDONLY)
    os.chown(f"/proc/self/fd/{fd}", 11, 12)
    print(os.stat(f"/proc/self/fd/{fd}").st_uid, os.fstat(fd).st_uid, os.stat(f"/proc/{os.getpid()}/fd/{fd}").st_uid)
    fd = os.open("by-dev", os.O_RDONLY)
    os.chown(f"/dev/fd/{fd}", 13, 14)
    print(os.stat(f"/dev/fd/{fd}").st_uid, os.stat("/proc/self/cwd/by-dev").st_uid, os.stat("/proc/self/root/srv/c/by-dev").st_uid)
    fd = os.open("by-thread", os.O_RDONLY)
    os.chown(f"/proc/thread-self/fd/{fd}", 15, 16)
    fd = os.open("by-empty", os.O_PATH)
    print(libc.fchownat(fd, b"", 17, 18, 0x1000))
    os.symlink("x", "link-by-empty")
    fd = os.open("link-by-empty", os.O_PATH | os.O_NOFOLLOW)
    print(libc.fchownat(fd, b"", 19, 20, 0x1000))
    saved = os.dup(1)
    out = os.open("by-stdout", os.O_CREAT | os.O_WRONLY, 0o600)
    os.dup2(out, 1)
    os.chown("/dev/stdout", 21, 22)
    os.dup2(saved, 1)
    os.symlink("/dev/stdout", "to-stdout")
    os.symlink("/proc/self/fd/%d" % out, "to-descriptor")
    os.chown("to-descriptor", 23, -1)


def long_names():
    start = os.open(".", os.O_RDONLY)
    for _ in range(14):
        os.mkdir("n" * 250)
        os.chown("n" * 250, 3, 4)
        os.chdir("n" * 250)
    os.fchdir(start)
    path = "/".join(["n" * 250] * 14)
    for length in (4080, 4090, 4095, 4096):
        name = path + "/" + "." * 0 + "m" * 0
        rest = length - len(name)
        name = name + "./" * ((rest - 200) // 2) + "k" * (rest - (rest - 200) // 2 * 2)
        try:
            open(name, "w").close()
            os.chown(name, 5, 6)
            print(length, os.stat(name).st_uid, os.lstat(name).st_gid)
        except OSError as error:
            print(length, error.errno)
    os.chown(b"\xff\xfe", 1, 1) if os.path.exists(b"\xff\xfe") else None
    open(b"name-\xff\xfe", "w").close()
    os.chown(b"name-\xff\xfe", 7, 8)
    os.symlink(b"\xfe", b"link-\xff\xfe")
    os.lchown(b"link-\xff\xfe", 9, 10)


open("roots", "w").close()
as_user(1000, 1000, unnamed)
as_user(1000, 1001, opens)
through_descriptors()
long_names()
as_user(65534, 65534, lambda: [os.umask(0o077), os.mkdir("masked", 0o777), os.mkfifo("masked-fifo", 0o666)])
show(*sorted(os.listdir(".")))
