/* Prints what the calls that deal in owners answer. The output must be the same whoever runs it:
 * with ids that the kernel has, and with ids that are recorded. Run as root in an empty directory.
 *
 * What a user may read and write is not asked, nor who owns /proc/PID: these are known to differ. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *self;

static void result(const char *what, long value) {
    if (value < 0)
        printf("%s: errno %d\n", what, errno);
    else
        printf("%s: %ld\n", what, value);
    fflush(stdout);
}

#define SAY(call) result(#call, (long)(call))

static void ids(const char *what) {
    uid_t r, e, s;
    gid_t gr, ge, gs, groups[64];
    getresuid(&r, &e, &s);
    getresgid(&gr, &ge, &gs);
    int count = getgroups(64, groups);
    printf("%s: uid %u %u %u %u gid %u %u %u %u groups", what, r, e, s, setfsuid(-1), gr, ge, gs, setfsgid(-1));
    for (int i = 0; i < count; i++)
        printf(" %u", groups[i]);
    printf(" | %u %u %u %u\n", getuid(), geteuid(), getgid(), getegid());
    fflush(stdout);
}

static void show(const char *path) {
    struct stat st;
    struct statx sx;
    if (lstat(path, &st)) {
        printf("%s: errno %d\n", path, errno);
        return;
    }
    statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &sx);
    printf("%s: %u:%u %o links %lu size %lld | %u:%u %o\n", path, st.st_uid, st.st_gid, st.st_mode,
           (unsigned long)st.st_nlink, S_ISDIR(st.st_mode) ? 0LL : (long long)st.st_size, sx.stx_uid, sx.stx_gid, sx.stx_mode);
    fflush(stdout);
}

/* Runs work in a child, so that what it does to itself is over afterwards. */
static void apart(const char *what, void (*work)(void)) {
    printf("== %s\n", what);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        work();
        fflush(stdout);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    if (status)
        printf("status %x\n", status);
    fflush(stdout);
}

static void touch(const char *path, mode_t mode) {
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    if (fd < 0) {
        printf("open %s: errno %d\n", path, errno);
        return;
    }
    fchmod(fd, mode);
    close(fd);
}

/* All combinations of starting points and calls. */
static void set_ids(void) {
    static const uid_t starts[][3] = {{0, 0, 0}, {1000, 1000, 1000}, {1000, 0, 0}, {0, 1000, 0}, {1000, 33, 44}, {0, 1000, 1000}, {1000, 1000, 0}};
    static const int values[] = {-1, 0, 33, 44, 1000, 5};
    for (unsigned s = 0; s < sizeof starts / sizeof *starts; s++) {
        for (int call = 0; call < 10; call++) {
            for (int a = 0; a < 6; a++) {
                for (int b = 0; b < (call >= 2 && call < 6 ? 6 : 1); b++) {
                    pid_t pid = fork();
                    if (pid == 0) {
                        setresgid(starts[s][0], starts[s][1], starts[s][2]);
                        setresuid(starts[s][0], starts[s][1], starts[s][2]);
                        int x = values[a], y = values[b], done;
                        errno = 0;
                        switch (call) {
                        case 0: done = syscall(SYS_setuid, x); break;
                        case 1: done = syscall(SYS_setgid, x); break;
                        case 2: done = syscall(SYS_setreuid, x, y); break;
                        case 3: done = syscall(SYS_setregid, x, y); break;
                        case 4: done = syscall(SYS_setresuid, x, y, y); break;
                        case 5: done = syscall(SYS_setresgid, x, x, y); break;
                        case 6: done = syscall(SYS_setfsuid, x); break;
                        case 7: done = syscall(SYS_setfsgid, x); break;
                        case 8: done = syscall(SYS_setresuid, -1, x, -1); break;
                        default: done = syscall(SYS_setresuid, -1, -1, x); break;
                        }
                        char line[100];
                        snprintf(line, sizeof line, "%u %d(%d, %d) = %d errno %d", s, call, x, y, done, errno);
                        ids(line);
                        printf("  back: %d %d %d\n", setuid(0), setgid(0), setgroups(0, NULL));
                        int made = open("made-by-ids", O_CREAT | O_EXCL | O_WRONLY, 0600);
                        close(made);
                        show("made-by-ids");
                        unlink("made-by-ids");
                        fflush(stdout);
                        _exit(0);
                    }
                    waitpid(pid, NULL, 0);
                }
            }
        }
    }
}

static void groups(void) {
    gid_t list[] = {44, 3, 7, 3, 1};
    SAY(setgroups(5, list));
    ids("sorted");
    SAY(getgroups(0, NULL));
    SAY(getgroups(2, list));
    SAY(getgroups(-1, list));
    SAY(syscall(SYS_getgroups, 64, (void *)8));
    SAY(syscall(SYS_setgroups, 65537, list));
    SAY(syscall(SYS_setgroups, -1, list));
    SAY(syscall(SYS_setgroups, 3, (void *)8));
    list[1] = -1;
    SAY(syscall(SYS_setgroups, 3, list));
    SAY(setgroups(0, NULL));
    SAY(getgroups(0, NULL));
    SAY(syscall(SYS_getresuid, (void *)8, (void *)8, (void *)8));
    SAY(setresuid(5, 5, 5));
    SAY(syscall(SYS_setgroups, 65537, list));
    SAY(syscall(SYS_setgroups, 3, (void *)8));
    SAY(setgroups(0, NULL));
}

static void capabilities(void) {
    SAY(prctl(PR_GET_KEEPCAPS));
    SAY(prctl(PR_SET_KEEPCAPS, 2));
    SAY(prctl(PR_SET_KEEPCAPS, 1));
    SAY(setresuid(1000, 1000, 1000));
    ids("kept");
    SAY(prctl(PR_GET_KEEPCAPS));
}

static void unfixed(void) {
    SAY(prctl(PR_SET_SECUREBITS, 1 << 2));
    SAY(prctl(PR_GET_SECUREBITS));
    SAY(setresuid(1000, 1000, 1000));
    SAY(setresgid(7, 7, 7));
    SAY(setgroups(0, NULL));
    touch("unfixed", 0600);
    SAY(chown("unfixed", 3, 4));
    show("unfixed");
    SAY(setresuid(0, 0, 0));
}

static void dropped(void) {
    struct { unsigned version; int pid; } header = {0x20080522, 0};
    struct { unsigned effective, permitted, inheritable; } data[2];
    touch("dropped", 0600);
    SAY(syscall(SYS_capget, &header, data));
    data[0].effective &= ~((1u << 0) | (1u << 6) | (1u << 7));
    SAY(syscall(SYS_capset, &header, data));
    SAY(chown("dropped", 1, -1));
    SAY(chown("dropped", -1, 1));
    SAY(chown("dropped", 0, 0));
    SAY(setuid(5));
    SAY(setgid(5));
    SAY(setgroups(0, NULL));
    ids("without three capabilities");
}

static void file_user(void) {
    touch("fs", 0600);
    SAY(chown("fs", 1000, 1000));
    SAY(setfsuid(1000));
    SAY(chown("fs", 3, -1));
    SAY(chown("fs", -1, 3));
    SAY(chown("fs", -1, 0));
    touch("fs-made", 0600);
    show("fs-made");
    SAY(setgroups(0, NULL));
    SAY(setfsuid(0));
    SAY(chown("fs", 4, 4));
    show("fs");
}

static void owners(void) {
    static const mode_t modes[] = {0644, 0755, 04755, 06755, 02745, 02755, 06644, 01777, 07777};
    for (unsigned m = 0; m < sizeof modes / sizeof *modes; m++) {
        static const int pairs[][2] = {{-1, -1}, {5, -1}, {-1, 6}, {0, 0}, {7, 8}};
        for (unsigned p = 0; p < 5; p++) {
            touch("o", modes[m]);
            mkdir("od", 0700);
            chmod("od", modes[m]);
            SAY(chown("o", pairs[p][0], pairs[p][1]));
            SAY(chown("od", pairs[p][0], pairs[p][1]));
            show("o");
            show("od");
            SAY(chmod("o", 06711));
            show("o");
            unlink("o");
            rmdir("od");
        }
    }
    touch("o", 0644);
    symlink("o", "ol");
    symlink("nothing", "on");
    mkfifo("of", 0644);
    SAY(chown("ol", 1, 2));
    SAY(lchown("ol", 3, 4));
    SAY(chown("on", 1, 2));
    SAY(lchown("on", 5, 6));
    SAY(chown("of", 7, 8));
    SAY(fchownat(AT_FDCWD, "ol", 9, -1, AT_SYMLINK_NOFOLLOW));
    SAY(fchownat(AT_FDCWD, "", 9, -1, AT_EMPTY_PATH | 0x40000));
    SAY(fchownat(AT_FDCWD, "", 9, -1, 0));
    SAY(fchownat(AT_FDCWD, "o/", 9, -1, 0));
    SAY(fchownat(AT_FDCWD, "o/x", 9, -1, 0));
    SAY(fchownat(99, "o", 9, -1, 0));
    SAY(fchownat(-1, "o", 9, -1, 0));
    SAY(fchown(99, 1, 1));
    SAY(fchown(-1, 1, 1));
    SAY(chown("missing", 1, 1));
    SAY(chown("", 1, 1));
    SAY(syscall(SYS_fchownat, AT_FDCWD, (void *)8, 1, 1, 0));
    SAY(syscall(SYS_fchownat, AT_FDCWD, NULL, 1, 1, 0));
    int fd = open("o", O_PATH);
    SAY(fchown(fd, 20, 20));
    SAY(fchownat(fd, "", 21, 21, AT_EMPTY_PATH));
    close(fd);
    fd = open("ol", O_PATH | O_NOFOLLOW);
    SAY(fchownat(fd, "", 22, 22, AT_EMPTY_PATH));
    fd = open(".", O_RDONLY | O_DIRECTORY);
    SAY(fchownat(fd, "o", 23, 23, 0));
    SAY(fchown(fd, 24, 24));
    SAY(fchownat(AT_FDCWD, "", 25, -1, AT_EMPTY_PATH));
    show(".");
    SAY(chown(".", 0, 0));
    show("o");
    show("ol");
    show("on");
    show("of");
    symlink("loop", "loop");
    SAY(chown("loop", 1, 1));
    SAY(lchown("loop", 1, 1));
    SAY(link("ol", "ol2"));
    SAY(rename("ol", "ol3"));
    show("ol2");
    show("ol3");
    SAY(rename("o", "o2"));
    SAY(link("o2", "o3"));
    show("o3");
    unlink("o2");
    touch("o2", 0600);
    show("o2");
    int p[2];
    pipe(p);
    SAY(fchown(p[0], 0, 0));
    SAY(chown("/dev/null", 0, 0));
    SAY(chown("/missing/x", 0, 0));
}

static void pointers(void) {
    struct stat st;
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages + 4096, 4096, PROT_NONE);
    touch("pointed", 0644);
    chown("pointed", 3, 4);
    char *end = pages + 4096 - 8;
    strcpy(end, "pointed");
    SAY(chown(end, 5, 6));
    SAY(stat(end, &st));
    printf("%u:%u\n", st.st_uid, st.st_gid);
    memcpy(pages + 4096 - 7, "pointed", 7);
    SAY(chown(pages + 4096 - 7, 5, 6));
    SAY(stat(pages + 4096 - 7, &st));
    SAY(mkdir(pages + 4096 - 7, 0700));
    SAY(open(pages + 4096 - 7, O_CREAT | O_WRONLY, 0600));
    strcpy(end, "pointed");
    SAY(syscall(SYS_newfstatat, AT_FDCWD, end, pages + 4096 - 16, 0));
    SAY(syscall(SYS_newfstatat, AT_FDCWD, end, NULL, 0));
    SAY(syscall(SYS_statx, AT_FDCWD, end, 0, STATX_ALL, pages + 4096 - 16));
    SAY(syscall(SYS_newfstatat, AT_FDCWD, end, &st, 0x40000));
    SAY(syscall(SYS_statx, AT_FDCWD, end, 0x40000, STATX_ALL, &st));
    SAY(syscall(SYS_statx, AT_FDCWD, end, 0, 0x80000000u, &st));
    SAY(syscall(SYS_statx, AT_FDCWD, end, 0x6000, STATX_ALL, &st));
    SAY(syscall(SYS_newfstatat, 99, "pointed", &st, 0));
    SAY(syscall(SYS_newfstatat, 99, "/etc/passwd", &st, 0));
    SAY(syscall(SYS_newfstatat, AT_FDCWD, "", &st, 0));
    SAY(syscall(SYS_newfstatat, AT_FDCWD, "", &st, AT_EMPTY_PATH));
    SAY(syscall(SYS_fstat, 99, &st));
    mprotect(pages, 4096, PROT_READ);
    SAY(syscall(SYS_newfstatat, AT_FDCWD, "pointed", pages, 0));
    char path[PATH_MAX + 10];
    memset(path, '/', sizeof path);
    for (int length = PATH_MAX - 3; length <= PATH_MAX + 1; length++) {
        memset(path, '/', sizeof path);
        memcpy(path, "./", 2);
        memcpy(path + length - 7, "pointed", 8);
        printf("%d ", length);
        SAY(chown(path, length - 4000, 9));
        SAY(stat(path, &st));
        printf("%u:%u\n", st.st_uid, st.st_gid);
    }
    char name[300];
    memset(name, 'n', 299);
    name[256] = 0;
    SAY(mkdir(name, 0700));
    SAY(chown(name, 1, 1));
    name[255] = 0;
    SAY(mkdir(name, 0700));
    SAY(chown(name, 1, 1));
    show(name);
}

/* As a user: what its new files are, and what it may not do. */
static void user(void) {
    gid_t list[] = {50, 60};
    umask(027);
    setgroups(2, list);
    setresgid(1001, 1001, 1001);
    setresuid(1000, 1000, 1000);
    ids("user");
    touch("u", 0644);
    SAY(mkdir("ud", 0777));
    SAY(symlink("x", "ul"));
    SAY(mkfifo("uf", 0666));
    SAY(mknod("un", S_IFREG | 0666, 0));
    SAY(mknod("us", S_IFSOCK | 0666, 0));
    SAY(mknod("uc", S_IFCHR | 0666, 0x103));
    SAY(mknod("uz", 0666, 0));
    SAY(mknod("ux", S_IFDIR | 0666, 0));
    SAY(mkdir("ud", 0777));
    SAY(mkdir("missing/ud", 0777));
    SAY(mkdir("u/d", 0777));
    SAY(mkdir("", 0777));
    SAY(mkdir(".", 0777));
    SAY(mkdir("..", 0777));
    SAY(mkdir("ud/.", 0777));
    SAY(mkdir("ue/", 0777));
    SAY(mkdir("/", 0777));
    SAY(symlink("", "uempty"));
    SAY(symlink("x", "ul"));
    SAY(symlink("x", "utrail/"));
    SAY(symlink((char *)8, "ubad"));
    SAY(mkfifo("ufifo/", 0666));
    SAY(open("u", O_CREAT | O_EXCL | O_WRONLY, 0600));
    SAY(open("ud", O_CREAT | O_WRONLY, 0600));
    SAY(open("unew/", O_CREAT | O_WRONLY, 0600));
    SAY(open("u/x", O_CREAT | O_WRONLY, 0600));
    SAY(open("missing/x", O_CREAT | O_WRONLY, 0600));
    SAY(open("ul/x", O_CREAT | O_WRONLY, 0600));
    SAY(open("ul", O_CREAT | O_WRONLY | O_NOFOLLOW, 0600));
    SAY(open("udir", O_CREAT | O_DIRECTORY | O_RDONLY, 0600));
    SAY(open("uf", O_CREAT | O_WRONLY | O_NONBLOCK, 0600));
    SAY(openat(99, "ux", O_CREAT | O_WRONLY, 0600));
    SAY(fcntl(open("uflags", O_CREAT | O_RDWR | O_APPEND | O_NONBLOCK | O_EXCL, 0600), F_GETFL));
    SAY(fcntl(open("uflags2", O_CREAT | O_RDWR | O_CLOEXEC, 0600), F_GETFD));
    SAY(fcntl(open("uflags3", O_CREAT | O_RDWR, 0600), F_GETFD));
    close(open("x2", O_CREAT | O_WRONLY, 04755));
    show("u");
    show("x2");
    show("ud");
    show("ul");
    show("uf");
    show("un");
    show("us");
    show("ue");
    SAY(symlink("behind", "ulink"));
    touch("ulink", 0640);
    show("behind");
    SAY(chown("u", 1000, 50));
    SAY(chown("u", -1, 60));
    SAY(chown("u", -1, 1001));
    SAY(chown("u", 1000, 1001));
    SAY(chown("u", -1, -1));
    SAY(chown("u", 1000, 70));
    SAY(chown("u", 0, -1));
    SAY(chown("u", 1002, -1));
    SAY(chown("/etc/passwd", 1000, -1));
    SAY(chown("/etc/passwd", -1, 50));
    SAY(lchown("ul", -1, 60));
    SAY(chown("uf", -1, 60));
    SAY(chmod("u", 06755));
    SAY(chown("u", -1, 50));
    show("u");
    show("ul");
    show("uf");
    SAY(setxattr("u", "user.mine", "1", 1, 0));
    SAY(setxattr("u", "security.capability", "\1\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, 0));
    SAY(chroot("."));
}

static void inheritance(void) {
    mkdir("g", 0700);
    SAY(chown("g", 5, 6));
    SAY(chmod("g", 02777));
    touch("g/root", 0644);
    mkdir("g/rootd", 0755);
    symlink("x", "g/rootl");
    mkfifo("g/rootf", 0600);
    setgroups(0, NULL);
    setresgid(8, 8, 8);
    setresuid(7, 7, 7);
    touch("g/user", 0644);
    mkdir("g/userd", 0755);
    mkdir("g/userd/deeper", 0755);
    touch("g/userd/deeper/f", 0600);
    symlink("x", "g/userl");
    mkfifo("g/userf", 0600);
    close(open("g/sgid", O_CREAT | O_WRONLY, 02755));
    close(open("g/sgid2", O_CREAT | O_WRONLY, 02745));
    mkdir("g/dsgid", 02755);
    static const char *names[] = {"g", "g/root", "g/rootd", "g/rootl", "g/rootf", "g/user", "g/userd", "g/userd/deeper",
                                  "g/userd/deeper/f", "g/userl", "g/userf", "g/sgid", "g/sgid2", "g/dsgid"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        show(names[i]);
    touch("g/strip", 0755);
    SAY(chmod("g/strip", 02755));
    show("g/strip");
    SAY(chmod("g/dsgid", 02755));
    show("g/dsgid");
}

static void execute_as(int how) {
    gid_t list[] = {50};
    setgroups(1, list);
    setresgid(1001, 1001, 1001);
    switch (how) {
    case 0: setresuid(1000, 1000, 1000); break;
    case 1: setresuid(0, 1000, 0); break;
    case 2: setresuid(1000, 0, 0); break;
    case 3: setresuid(1000, 1000, 0); break;
    case 4: setresuid(1000, 1000, 1000); prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); break;
    default: break;
    }
}

static int how;
static const char *program;
static void executes(void) {
    execute_as(how);
    if (*program == '!') {
        /* One that fails first, as with PATH. */
        SAY(execl("./missing", "missing", "ids", "missing", NULL));
        SAY(execl("./plain", "plain", "ids", "plain", NULL));
        SAY(execl("./x", "x", "ids", "x", NULL));
        SAY(execl("./fifo", "fifo", "ids", "fifo", NULL));
        SAY(execl("./empty", "empty", "ids", "empty", NULL));
        ids("after failed ones");
        program++;
    }
    execl(program, program, "ids", program, NULL);
    printf("%s: errno %d\n", program, errno);
}

static void copy(const char *to, mode_t mode, uid_t uid, gid_t gid) {
    int in = open(self, O_RDONLY), out = open(to, O_CREAT | O_WRONLY | O_TRUNC, 0700);
    char buffer[65536];
    ssize_t count;
    while ((count = read(in, buffer, sizeof buffer)) > 0)
        write(out, buffer, count);
    close(in);
    close(out);
    chown(to, uid, gid);
    chmod(to, mode);
    show(to);
}

static void text(const char *to, const char *what, mode_t mode) {
    int fd = open(to, O_CREAT | O_WRONLY | O_TRUNC, 0700);
    write(fd, what, strlen(what));
    close(fd);
    chmod(to, mode);
}

static void executing(void) {
    chmod(".", 0777);
    mkdir("x", 0755);
    touch("plain", 0644);
    touch("empty", 0755);
    mkfifo("fifo", 0755);
    copy("suid", 04755, 33, 34);
    copy("sgid", 02755, 33, 34);
    copy("both", 06755, 0, 34);
    copy("locked", 02745, 33, 34);
    copy("none", 0755, 33, 34);
    copy("hidden", 04711, 33, 34);
    symlink("suid", "link");
    text("script", "#!./none ids\n", 06755);
    chown("script", 33, 34);
    chmod("script", 06755);
    text("script2", "#!./suid ids\n", 0755);
    static const char *programs[] = {"./suid", "./sgid", "./both", "./locked", "./none", "./hidden", "./link", "./script", "./script2", "!./none", "!./suid"};
    for (how = 0; how < 5; how++)
        for (unsigned i = 0; i < sizeof programs / sizeof *programs; i++) {
            program = programs[i];
            printf("%d ", how);
            apart(program, executes);
        }
}

static void *storm(void *argument) {
    long uid = (long)argument;
    for (int i = 0; i < 200; i++) {
        char name[50];
        snprintf(name, sizeof name, "storm-%ld-%d", uid, i);
        if (mkdir(name, 0700) || chown(name, uid, i))
            printf("%s: errno %d\n", name, errno);
        struct stat st;
        if (stat(name, &st) || st.st_uid != uid || st.st_gid != (gid_t)i)
            printf("%s: %u:%u\n", name, st.st_uid, st.st_gid);
        rmdir(name);
    }
    return NULL;
}

static void *become(void *argument) {
    (void)argument;
    if (setresuid(-1, 1000, 0) || geteuid() != 1000)
        printf("a thread did not become a user\n");
    return NULL;
}

static void threads(void) {
    pthread_t list[8];
    for (long i = 0; i < 8; i++)
        pthread_create(&list[i], NULL, storm, (void *)(i + 1));
    for (int i = 0; i < 8; i++)
        pthread_join(list[i], NULL);
    for (int i = 0; i < 8; i++)
        pthread_create(&list[i], NULL, become, NULL);
    for (int i = 0; i < 8; i++)
        pthread_join(list[i], NULL);
    ids("every thread");
    for (int i = 0; i < 100; i++) {
        pid_t pid = vfork();
        if (pid == 0) {
            execl("./none", "none", "quiet", NULL);
            _exit(9);
        }
        int status;
        waitpid(pid, &status, 0);
        if (status)
            printf("vfork %x\n", status);
    }
}

static void peers(void) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "peer"};
    chmod(".", 0777);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    SAY(bind(listener, (void *)&address, sizeof address));
    SAY(bind(listener, (void *)&address, sizeof address));
    SAY(listen(listener, 5));
    chmod("peer", 0777);
    show("peer");
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        gid_t list[] = {50, 60};
        setgroups(2, list);
        setresgid(1001, 1001, 1001);
        setresuid(1000, 1000, 1000);
        int client = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(client, (void *)&address, sizeof address))
            printf("connect: errno %d\n", errno);
        char byte;
        read(client, &byte, 1);
        getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &length);
        printf("server %u:%u\n", peer.uid, peer.gid);
        int other = socket(AF_UNIX, SOCK_STREAM, 0);
        SAY(bind(other, (void *)&address, sizeof address));
        strcpy(address.sun_path, "missing/peer");
        SAY(bind(other, (void *)&address, sizeof address));
        strcpy(address.sun_path, "users-peer");
        SAY(bind(99, (void *)&address, sizeof address));
        SAY(bind(other, (void *)&address, 5));
        show("use");
        SAY(bind(other, (void *)&address, sizeof address));
        SAY(bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&address, sizeof address));
        SAY(bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)8, sizeof address));
        SAY(bind(socket(AF_UNIX, SOCK_DGRAM, 0), (void *)&address, 2));
        struct sockaddr_un back;
        socklen_t size = sizeof back;
        memset(&back, 0, sizeof back);
        if (getsockname(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&back, &size) == 0)
            printf("unbound: %u\n", size);
        int third = socket(AF_UNIX, SOCK_STREAM, 0);
        strcpy(address.sun_path, "./named-peer");
        SAY(bind(third, (void *)&address, sizeof address));
        size = sizeof back;
        memset(&back, 0, sizeof back);
        getsockname(third, (void *)&back, &size);
        printf("named: %s %u\n", back.sun_path, size);
        show("users-peer");
        fflush(stdout);
        _exit(0);
    }
    int connection = accept(listener, NULL, NULL);
    SAY(getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length));
    printf("client %u:%u %d length %u\n", peer.uid, peer.gid, peer.pid == pid, length);
    length = 8;
    SAY(getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length));
    printf("length %u\n", length);
    SAY(syscall(SYS_getsockopt, connection, SOL_SOCKET, SO_PEERCRED, &peer, (void *)8));
    gid_t list[8];
    length = sizeof list;
    SAY(getsockopt(connection, SOL_SOCKET, 59, list, &length));
    printf("groups length %u: %u %u\n", length, list[0], list[1]);
    length = 4;
    SAY(getsockopt(connection, SOL_SOCKET, 59, list, &length));
    printf("length %u\n", length);
    write(connection, "x", 1);
    waitpid(pid, NULL, 0);
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    length = sizeof peer;
    SAY(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &length));
    printf("pair %u:%u %d\n", peer.uid, peer.gid, peer.pid == getpid());
    length = sizeof peer;
    SAY(getsockopt(socket(AF_UNIX, SOCK_STREAM, 0), SOL_SOCKET, SO_PEERCRED, &peer, &length));
    printf("none %d:%d %d\n", peer.uid, peer.gid, peer.pid);
    length = sizeof peer;
    SAY(getsockopt(0, SOL_SOCKET, SO_PEERCRED, &peer, &length));
    SAY(getsockopt(99, SOL_SOCKET, SO_PEERCRED, &peer, &length));
}

static void limits(void) {
    struct rlimit limit;
    SAY(getrlimit(RLIMIT_LOCKS, &limit));
    printf("%d %d\n", limit.rlim_cur == RLIM_INFINITY, limit.rlim_max == RLIM_INFINITY);
    setresuid(1000, 1000, 1000);
    SAY(getrlimit(RLIMIT_LOCKS, &limit));
    printf("%d %d\n", limit.rlim_cur == RLIM_INFINITY, limit.rlim_max == RLIM_INFINITY);
    SAY(setrlimit(RLIMIT_LOCKS, &limit));
    ids("after setrlimit");
}

static void attributes(void) {
    char buffer[300];
    touch("a", 0644);
    chown("a", 5, 6);
    SAY(listxattr("a", NULL, 0));
    SAY(listxattr("a", buffer, sizeof buffer));
    SAY(setxattr("a", "user.mine", "1", 1, 0));
    SAY(listxattr("a", NULL, 0));
    SAY(listxattr("a", buffer, 3));
    SAY(listxattr("a", buffer, sizeof buffer));
    SAY(listxattr("a", (char *)8, sizeof buffer));
    SAY(getxattr("a", "user.mine", buffer, 0));
    SAY(getxattr("a", "user.none", buffer, 0));
    SAY(getxattr("missing", "user.mine", buffer, 0));
    SAY(setxattr("a", (char *)8, "1", 1, 0));
    SAY(setxattr("a", "", "1", 1, 0));
    memset(buffer, 'x', sizeof buffer);
    memcpy(buffer, "user.", 5);
    buffer[256] = 0;
    SAY(setxattr("a", buffer, "1", 1, 0));
    SAY(removexattr("a", "user.mine"));
    SAY(removexattr("a", "user.mine"));
    symlink("a", "al");
    lchown("al", 1, 1);
    SAY(llistxattr("al", buffer, sizeof buffer));
    int fd = open("a", O_RDONLY);
    SAY(flistxattr(fd, buffer, sizeof buffer));
    SAY(flistxattr(99, buffer, sizeof buffer));
    close(fd);
    fd = open("a", O_PATH);
    SAY(flistxattr(fd, buffer, sizeof buffer));
    SAY(setxattr("a", "security.capability", "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, 0));
    SAY(getxattr("a", "security.capability", buffer, sizeof buffer));
    SAY(chown("a", 5, 6));
    SAY(getxattr("a", "security.capability", buffer, sizeof buffer));
}

static void undumpable(void) {
    prctl(PR_SET_DUMPABLE, 0);
    touch("undumpable", 0644);
    SAY(chown("undumpable", 3, 4));
    show("undumpable");
    setresgid(9, 9, 9);
    setresuid(9, 9, 9);
    touch("undumpable2", 0644);
    show("undumpable2");
}

static volatile int alarms;
static void on_alarm(int number) { (void)number; alarms++; }

static void signals(void) {
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval every = {{0, 100}, {0, 100}};
    sigaction(SIGALRM, &action, NULL);
    setresgid(12, 12, 12);
    setresuid(12, 12, 12);
    setitimer(ITIMER_REAL, &every, NULL);
    int failed = 0;
    for (int i = 0; i < 2000; i++) {
        if (mkdir("sig", 0700))
            failed++;
        if (rmdir("sig"))
            failed++;
        int fd = open("sig", O_CREAT | O_EXCL | O_WRONLY, 0600);
        if (fd < 0)
            failed++;
        close(fd);
        if (symlink("x", "sigl"))
            failed++;
        if (unlink("sigl") || unlink("sig"))
            failed++;
    }
    every.it_value.tv_usec = 0;
    setitimer(ITIMER_REAL, &every, NULL);
    printf("failed %d alarms %d\n", failed, alarms > 10);
}

static void in_chroot(void) {
    mkdir("jail", 0755);
    mkdir("jail/in", 0777);
    chmod("jail/in", 0777);
    int outside = open(".", O_RDONLY);
    touch("jail/in/f", 0644);
    symlink("/in/f", "jail/in/l");
    SAY(chroot("jail"));
    SAY(chdir("/in"));
    SAY(chown("/in/f", 3, 4));
    SAY(chown("/in/l", 5, -1));
    SAY(lchown("/in/l", 6, 6));
    show("/in/f");
    show("/../in/l");
    show("/in/../../in/f");
    SAY(fchownat(outside, "jail/in/f", -1, 9, 0));
    show("f");
    SAY(chown("/etc/passwd", 1, 1));
    SAY(fchdir(outside));
    show("jail/in/f");
    SAY(chroot("."));
    show("/jail/in/f");
    setresgid(7, 7, 7);
    setresuid(7, 7, 7);
    touch("/jail/in/mine", 0600);
    show("/jail/in/mine");
    SAY(mkdir("/jail/in/mined", 0700));
    show("jail/in/mined");
}

static void refused(void) {
    SAY(mknod("whiteout", S_IFCHR | 0600, 0));
    SAY(setxattr(".", "user.overlay.opaque", "y", 1, 0));
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count > 1) {
        /* Executed: the last argument but one of a script is not always the word. */
        if (strcmp(arguments[1], "quiet"))
            ids(arguments[count - 1]);
        fflush(stdout);
        return 0;
    }
    self = arguments[0];
    chmod(".", 0777);
    ids("start");
    apart("set ids", set_ids);
    apart("groups", groups);
    apart("capabilities kept", capabilities);
    apart("no fixup", unfixed);
    apart("capabilities dropped", dropped);
    apart("file user", file_user);
    apart("owners", owners);
    apart("pointers", pointers);
    apart("user", user);
    apart("inheritance", inheritance);
    apart("executing", executing);
    apart("threads", threads);
    apart("peers", peers);
    apart("limits", limits);
    apart("attributes", attributes);
    apart("undumpable", undumpable);
    apart("signals", signals);
    apart("chroot", in_chroot);
    apart("refused", refused);
    return 0;
}
