/* Attacks on the process that answers system calls; the argument names one. Each ends with a line
 * `ok`, or says what went wrong. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *victim;

#define EXPECT(condition) \
    do { \
        if (!(condition)) { \
            printf("line %d: %s (errno %d)\n", __LINE__, #condition, errno); \
            exit(1); \
        } \
    } while (0)

static void become(int id) {
    gid_t list[] = {id};
    EXPECT(setgroups(1, list) == 0);
    EXPECT(setresgid(id, id, id) == 0);
    EXPECT(setresuid(id, id, id) == 0);
}

static void is_alive(void) {
    struct stat st;
    unlink("alive");
    EXPECT(mknod("alive", S_IFREG | 0600, 0) == 0);
    EXPECT(chown("alive", 3, 4) == 0);
    EXPECT(stat("alive", &st) == 0 && st.st_uid == 3 && st.st_gid == 4);
    unlink("alive");
}

/* rbuild's own attributes are neither set nor seen. */
static void attributes(void) {
    char buffer[300];
    close(open("f", O_CREAT | O_WRONLY, 0600));
    EXPECT(chown("f", 5, 6) == 0);
    int fd = open("f", O_RDWR);
    EXPECT(setxattr("f", "user.rbuild.owner", "o", 1, 0) < 0 && errno == EPERM);
    EXPECT(lsetxattr("f", "user.rbuild.owner", "o", 1, 0) < 0 && errno == EPERM);
    EXPECT(fsetxattr(fd, "user.rbuild.owner", "o", 1, 0) < 0 && errno == EPERM);
    EXPECT(setxattr("f", "user.rbuild.", "o", 1, 0) < 0 && errno == EPERM);
    EXPECT(removexattr("f", "user.rbuild.owner") < 0 && errno == EPERM);
    EXPECT(fremovexattr(fd, "user.rbuild.owner") < 0 && errno == EPERM);
    EXPECT(getxattr("f", "user.rbuild.owner", buffer, 300) < 0 && errno == ENODATA);
    EXPECT(lgetxattr("f", "user.rbuild.owner", buffer, 300) < 0 && errno == ENODATA);
    EXPECT(fgetxattr(fd, "user.rbuild.owner", buffer, 300) < 0 && errno == ENODATA);
    EXPECT(listxattr("f", buffer, 300) == 0 && listxattr("f", NULL, 0) == 0);
    EXPECT(flistxattr(fd, buffer, 300) == 0);
    /* setxattrat(2) and its kin, and io_uring_setup(2). */
    for (int number = 463; number <= 466; number++)
        EXPECT(syscall(number, -100, "f", 0, "user.rbuild.owner", 0, 0) < 0 && (errno == ENOSYS || errno == EPERM));
    EXPECT(syscall(425, 8, buffer) < 0 && errno == ENOSYS);
    is_alive();
}

/* Nothing but the own processes and the first is there to signal or trace. */
static void processes(void) {
    int found = 0;
    for (pid_t pid = 1; pid < 40000; pid++) {
        if (pid == getpid() || kill(pid, 0))
            continue;
        /* The first, the shell, timeout and its child. */
        EXPECT(++found <= 4);
        if (pid == 1)
            EXPECT(ptrace(PTRACE_ATTACH, pid, 0, 0) < 0);
    }
    is_alive();
}

static void listener(void) {
    struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
    struct sock_fprog program = {1, &allow};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    EXPECT(fd < 0 && (errno == EBUSY || errno == EPERM));
    is_alive();
}

/* The limit in which the supervisor keeps who a process is. */
static void limits(void) {
    struct rlimit old, new = {0x7262756900000000, RLIM_INFINITY};
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    become(1000);
    for (unsigned long i = 0; i < 20; i++) {
        new.rlim_cur = 0x7262756900000000 + i;
        setrlimit(RLIMIT_LOCKS, &new);
        EXPECT(geteuid() == 1000);
        prlimit(0, RLIMIT_LOCKS, &new, &old);
        prlimit(getpid(), RLIMIT_LOCKS, &new, NULL);
        prlimit(1, RLIMIT_LOCKS, &new, NULL);
        syscall(SYS_prlimit64, 0, 0x10000000aUL, &new, &old);
        EXPECT(geteuid() == 1000 && getgid() == 1000);
        EXPECT(old.rlim_cur == RLIM_INFINITY);
    }
    EXPECT(setuid(0) < 0 && errno == EPERM);
    kill(child, SIGKILL);
    wait(NULL);
    setenv("victim", "", 1);
    char *arguments[] = {"/attack", "is-user", NULL};
    execv("/attack", arguments);
    EXPECT(!"executed");
}

static volatile int stop;

static void *swap(void *name) {
    static const char *places[] = {"/", ".", "../../../../../../../..", "/proc/1/root", "/proc/1/cwd", "/proc/self/cwd", "/proc/1/fd/3", "d", "missing"};
    for (unsigned i = 0; !stop; i++) {
        const char *place = i % 10 == 9 ? victim : places[i % 10];
        unlink("swap.new");
        symlink(place, "swap.new");
        rename("swap.new", name);
    }
    return NULL;
}

/* Paths that change while they are looked at lead nowhere but into the image. */
static void races(void) {
    pthread_t thread;
    char path[4096];
    snprintf(path, sizeof path, "p/%s", victim);
    mkdir("d", 0777);
    close(open("d/x", O_CREAT | O_WRONLY, 0600));
    pthread_create(&thread, NULL, swap, "p");
    if (fork() == 0) {
        become(1000);
        for (int i = 0; i < 3000; i++) {
            close(open("p/made", O_CREAT | O_WRONLY, 0600));
            mkdir("p/made-d", 0700);
            symlink("x", "p/made-l");
            unlink("p/made");
        }
        _exit(0);
    }
    for (int i = 0; i < 3000; i++) {
        struct stat st;
        chown("p", 11, 12);
        lchown("p", 13, 14);
        chown("p/x", 15, 16);
        chown(path, 666, 666);
        stat(path, &st);
        chown("p/proc/1/fd/3", 17, 18);
        rename("p/x", "p/y");
        rename("p/y", "p/x");
    }
    int status;
    wait(&status);
    EXPECT(status == 0);
    stop = 1;
    pthread_join(thread, NULL);
    EXPECT(chown(victim, 1, 1) < 0 && errno == ENOENT);
    is_alive();
}

static void groups(void) {
    gid_t list[1000];
    int refused = 0;
    for (int i = 0; i < 6000 && !refused; i++) {
        for (int j = 0; j < 1000; j++)
            list[j] = i * 1000 + j;
        if (setgroups(1000, list)) {
            EXPECT(errno == ENOMEM);
            refused = 1;
        }
    }
    EXPECT(refused);
    is_alive();
}

/* Files that make who opens them wait. */
static void fifos(void) {
    EXPECT(mkfifo("fifo", 0777) == 0);
    pid_t waits = fork();
    if (waits == 0) {
        become(1000);
        open("fifo", O_CREAT | O_WRONLY, 0600);
        _exit(0);
    }
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        if (child == 0) {
            if (i)
                become(1000);
            EXPECT(open("fifo", O_CREAT | O_EXCL | O_WRONLY, 0600) < 0 && errno == EEXIST);
            EXPECT(execl("./fifo", "fifo", NULL) < 0 && errno == EACCES);
            EXPECT(chown("fifo", -1, -1) == 0);
            for (int j = 0; j < 200; j++) {
                unlink("turns");
                if (j % 2)
                    mkfifo("turns", 0777);
                else
                    close(open("turns", O_CREAT | O_WRONLY | O_NONBLOCK, 0777));
                execl("./turns", "turns", NULL);
                close(open("turns", O_CREAT | O_RDWR | O_NONBLOCK, 0600));
            }
            struct sockaddr_un address = {.sun_family = AF_UNIX};
            strcpy(address.sun_path, i ? "fifo/socket" : "/proc/1/fd/3");
            EXPECT(bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&address, sizeof address) < 0);
            strcpy(address.sun_path, "/proc/self/fd/0/socket");
            EXPECT(bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&address, sizeof address) < 0);
            _exit(0);
        }
        int status;
        EXPECT(waitpid(child, &status, 0) == child && status == 0);
    }
    is_alive();
    kill(waits, SIGKILL);
    wait(NULL);
}

/* The old ways out of chroot(2) lead to the root of the image. */
static void roots(void) {
    struct stat st;
    EXPECT(mkdir("jail", 0755) == 0 && mkdir("jail/in", 0755) == 0);
    int outside = open("/", O_RDONLY | O_DIRECTORY);
    EXPECT(chroot("jail") == 0);
    EXPECT(fchdir(outside) == 0);
    for (int i = 0; i < 50; i++)
        chdir("..");
    EXPECT(chown("tmp", 0, 0) == 0);
    EXPECT(chroot(".") == 0);
    EXPECT(stat("/attack", &st) == 0);
    EXPECT(chown(victim, 1, 1) < 0 && errno == ENOENT);
    EXPECT(open(victim, O_WRONLY | O_CREAT, 0600) < 0 && errno == ENOENT);
    for (int i = 0; i < 64; i++) {
        char path[4200];
        snprintf(path, sizeof path, "/proc/1/fd/%d%s", i, victim);
        EXPECT(chown(path, 1, 1) < 0);
        snprintf(path, sizeof path, "/proc/1/fd/%d/escaped", i);
        EXPECT(mkdir(path, 0700) < 0);
        unlink("/tmp/way");
        symlink(path, "/tmp/way");
        EXPECT(chown("/tmp/way", 1, 1) < 0 && mkdir("/tmp/way/x", 0700) < 0);
    }
    EXPECT(chown("/proc/1/root/missing", 1, 1) < 0);
    chdir("/tmp");
    is_alive();
}

/* Processes that end while their calls are answered. */
static void deaths(void) {
    for (int i = 0; i < 300; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            if (i % 2)
                become(1000 + i);
            for (;;) {
                mkdir("death", 0700);
                chown("death", 5, i);
                rmdir("death");
                pid_t next = vfork();
                if (next == 0)
                    _exit(0);
                waitpid(next, NULL, 0);
            }
        }
        usleep(i % 7 * 300);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        if (i % 50 == 0) {
            rmdir("death");
            is_alive();
        }
    }
    rmdir("death");
    is_alive();
}

static void on_alarm(int number) { (void)number; }

/* Without SA_RESTART a call that nobody has begun to answer ends with EINTR. */
#define AGAIN(call) ({ long value; while ((value = (call)) < 0 && errno == EINTR); value; })

/* No signal makes a call happen twice. */
static void signals(void) {
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval every = {{0, 100}, {0, 100}};
    sigaction(SIGALRM, &action, NULL);
    become(12);
    setitimer(ITIMER_REAL, &every, NULL);
    for (int i = 0; i < 4000; i++) {
        int fd;
        if (i == 2000) {
            action.sa_flags = SA_RESTART;
            sigaction(SIGALRM, &action, NULL);
        }
        EXPECT(AGAIN(mkdir("sig", 0700)) == 0 && rmdir("sig") == 0);
        EXPECT((fd = AGAIN(open("sig", O_CREAT | O_EXCL | O_WRONLY, 0600))) >= 0);
        EXPECT(close(fd) == 0 && unlink("sig") == 0);
        EXPECT(AGAIN(symlink("x", "sig")) == 0 && unlink("sig") == 0);
    }
}

static void links(void) {
    char name[20];
    for (int i = 0; i < 20000; i++) {
        snprintf(name, sizeof name, "l%d", i);
        EXPECT(symlink("x", name) == 0 && lchown(name, i, i + 1) == 0);
    }
    for (int i = 0; i < 20000; i += 999) {
        struct stat st;
        snprintf(name, sizeof name, "l%d", i);
        EXPECT(lstat(name, &st) == 0 && st.st_uid == (uid_t)i && st.st_gid == (gid_t)i + 1);
    }
    for (int i = 0; i < 20000; i++) {
        snprintf(name, sizeof name, "l%d", i);
        EXPECT(i == 12345 || unlink(name) == 0);
    }
}

static void is_user(void) {
    EXPECT(geteuid() == 1000 && getuid() == 1000 && setuid(0) < 0);
}

int main(int count, char **arguments) {
    static const struct { const char *name; void (*run)(void); } attacks[] = {
        {"attributes", attributes}, {"processes", processes}, {"listener", listener}, {"limits", limits},
        {"races", races}, {"groups", groups}, {"fifos", fifos}, {"roots", roots}, {"deaths", deaths},
        {"signals", signals}, {"links", links}, {"is-user", is_user},
    };
    victim = count > 2 ? arguments[2] : "";
    setvbuf(stdout, NULL, _IONBF, 0);
    for (unsigned i = 0; i < sizeof attacks / sizeof *attacks; i++)
        if (count > 1 && strcmp(arguments[1], attacks[i].name) == 0) {
            attacks[i].run();
            printf("ok\n");
            return 0;
        }
    return 2;
}
