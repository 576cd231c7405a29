/* What a process of a sandbox is, sees and may do, one "KEY: VALUE" on a line.
 *
 * usage: view HOST_PID ABSTRACT_SOCKET HOST_FILE [chroot]
 *
 * HOST_PID is a process of the host to signal and trace, ABSTRACT_SOCKET a name that the host listens at,
 * HOST_FILE one outside of the image. With `chroot`, what would hit the machine of the test is left out. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const char *answer(long result) {
    return result < 0 ? strerrorname_np(errno) : "done";
}

#define SAY(key, call) printf("%s: %s\n", key, (errno = 0, answer(call)))

static void identity(void) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {0};
    syscall(SYS_capget, &head, data);
    unsigned long bounding = 0, ambient = 0;
    for (int i = 0; i < 64; i++) {
        if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1) bounding |= 1UL << i;
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1) ambient |= 1UL << i;
    }
#define WHOLE(set) ((unsigned long)data[1].set << 32 | data[0].set)
    printf("capabilities: effective %lx permitted %lx inheritable %lx bounding %lx ambient %lx\n", WHOLE(effective),
           WHOLE(permitted), WHOLE(inheritable), bounding, ambient);
    printf("no_new_privs: %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    printf("seccomp: %d\n", prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    printf("securebits: %d\n", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
    printf("dumpable: %d\n", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
    uid_t u[3];
    gid_t g[3], groups[64];
    getresuid(u, u + 1, u + 2);
    getresgid(g, g + 1, g + 2);
    printf("ids: %d %d %d, %d %d %d\ngroups:", u[0], u[1], u[2], g[0], g[1], g[2]);
    int count = getgroups(64, groups);
    for (int i = 0; i < count; i++) printf(" %d", groups[i]);
    printf("\n");
    mode_t mask = umask(0);
    umask(mask);
    printf("umask: %03o\n", mask);
    printf("pid: %d, session of its own: %s\n", getpid() < 4 ? getpid() : -1, getsid(0) == getpid() || getsid(0) == getppid() ? "yes" : "no");
    struct rlimit core;
    getrlimit(RLIMIT_CORE, &core);
    printf("core: %lu %lu\n", core.rlim_cur, core.rlim_max);
    struct utsname name;
    uname(&name);
    printf("host name: %s\n", name.nodename);
    printf("environment:");
    for (char **e = environ; *e; e++) printf(" %.*s", (int)(strchr(*e, '=') - *e), *e);
    printf("\n");
    sigset_t set;
    sigprocmask(SIG_BLOCK, 0, &set);
    printf("signals that are not at their default:");
    for (int s = 1; s < 65; s++) {
        struct sigaction action;
        int ignored = !sigaction(s, 0, &action) && action.sa_handler == SIG_IGN;
        if (ignored || sigismember(&set, s) == 1) printf(" %d", s);
    }
    printf("\n");
}

static void namespaces(void) {
    static const char *const kinds[] = {"user", "mnt", "pid", "ipc", "uts", "cgroup", "net", "time"};
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char path[64], target[64] = "cannot be read";
        snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i]);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length > 0) target[length] = 0;
        printf("namespace %s: %s\n", kinds[i], target);
    }
}

static const char *kind(mode_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG: return "file";
    case S_IFDIR: return "directory";
    case S_IFCHR: return "device";
    case S_IFBLK: return "block device";
    case S_IFIFO: return "pipe";
    case S_IFLNK: return "link";
    case S_IFSOCK: return "socket";
    default: return "other";
    }
}

static void descriptors(void) {
    for (int fd = 0; fd < 65536; fd++) {
        int flags = fcntl(fd, F_GETFL);
        struct stat st;
        if (flags < 0 || fstat(fd, &st)) continue;
        static const char *const modes[] = {"reads", "writes", "reads and writes", "path"};
        printf("descriptor %d: %s, %s", fd, kind(st.st_mode), modes[flags & O_ACCMODE]);
        if (S_ISCHR(st.st_mode)) printf(", %d:%d", major(st.st_rdev), minor(st.st_rdev));
        printf("\n");
    }
}

static int compare(const struct dirent **one, const struct dirent **two) {
    return strcmp((*one)->d_name, (*two)->d_name);
}

static void devices(const char *directory) {
    struct dirent **entries;
    int count = scandir(directory, &entries, 0, compare);
    for (int i = 0; i < count; i++) {
        char path[512], target[128] = "";
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
        if (entries[i]->d_name[0] == '.' || lstat(path, &st)) continue;
        printf("%s: %s %04o", path, kind(st.st_mode), st.st_mode & 07777);
        if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) printf(" %d:%d", major(st.st_rdev), minor(st.st_rdev));
        if (S_ISLNK(st.st_mode) && readlink(path, target, sizeof target - 1) > 0) printf(" -> %s", target);
        printf("\n");
    }
}

/* What can be read at a path: of a directory its entries, of a link its target, else its first byte. */
static const char *content(const char *path) {
    struct stat st;
    char byte;
    long found = -1;
    errno = 0;
    if (!lstat(path, &st) && S_ISLNK(st.st_mode)) {
        if (readlink(path, &byte, 1) > 0) return "something";
        return strerrorname_np(errno);
    }
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    if (fd < 0) return strerrorname_np(errno);
    fstat(fd, &st);
    if (S_ISDIR(st.st_mode)) {
        DIR *directory = fdopendir(fd);
        errno = 0;
        for (found = -2; directory && readdir(directory);) found++;
        closedir(directory);
    } else {
        found = read(fd, &byte, 1);
        close(fd);
    }
    return found > 0 ? "something" : errno ? strerrorname_np(errno) : "nothing";
}

/* The first process and, where processes are seen, one of the host. */
static void others(int host, int is_chroot) {
    static const char *const files[] = {"environ", "root", "root/", "exe", "cwd", "mem", "maps", "fd/0", "fd/1", "auxv", "stack", "syscall", "map_files", "ns/pid"};
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/1/%s", files[i]);
        printf("%s: %s\n", path, content(path));
    }
    SAY("write /proc/1/mem", open("/proc/1/mem", O_RDWR));
    SAY("write /proc/1/exe", open("/proc/1/exe", O_WRONLY));
    char byte;
    struct iovec local = {&byte, 1}, remote = {&local, 1};
    SAY("process_vm_readv of 1", process_vm_readv(1, &local, 1, &remote, 1, 0));
    SAY("process_vm_writev of 1", process_vm_writev(1, &local, 1, &remote, 1, 0));
    SAY("trace 1", ptrace(PTRACE_SEIZE, 1, 0, 0));
    int pidfd = syscall(SYS_pidfd_open, 1, 0);
    SAY("pidfd_getfd of 1", pidfd < 0 ? pidfd : syscall(SYS_pidfd_getfd, pidfd, 0, 0));
    SAY("setns to 1", pidfd < 0 ? pidfd : syscall(SYS_setns, pidfd, CLONE_NEWNS));
    struct rlimit limit;
    SAY("prlimit of 1", syscall(SYS_prlimit64, 1, RLIMIT_CORE, 0, &limit));
    SAY("signal to the host's process", kill(host, 0));
    SAY("trace the host's process", ptrace(PTRACE_SEIZE, host, 0, 0));
    SAY("process_vm_readv of the host's process", process_vm_readv(host, &local, 1, &remote, 1, 0));
    if (is_chroot) return;
    /* The first process of a pid namespace takes no signal from inside; were it to die, so would this. */
    SAY("signal to 1", kill(1, SIGKILL));
    DIR *proc = opendir("/proc");
    int most = 0;
    for (struct dirent *e; proc && (e = readdir(proc));)
        if (atoi(e->d_name) > most) most = atoi(e->d_name);
    printf("the highest process that is seen is a child of this step: %s\n", most <= getpid() + 1 ? "yes" : "no");
}

static void masked(void) {
    static const char *const paths[] = {
        "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
        "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
        "/sys/firmware", "/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/proc/kmsg", "/proc/kpagecount",
        "/proc/vmallocinfo", "/proc/slabinfo",
    };
    for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++) {
        /* Which of the two it is depends on whether this kernel has the path. */
        printf("%s: %s\n", paths[i], strcmp(content(paths[i]), "something") ? "nothing" : "something");
    }
    static const char *const files[] = {
        "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/kernel/modprobe",
        "/proc/sys/user/max_user_namespaces", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/vm/drop_caches",
        "/proc/sys/fs/binfmt_misc/register", "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper", "/sys/power/state",
        "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/cpu/release_agent",
        "/sys/fs/cgroup/pids/cgroup.procs", "/etc/resolv.conf", "/etc/hosts",
    };
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        char key[128];
        int fd = open(files[i], O_WRONLY);
        snprintf(key, sizeof key, "write %s", files[i]);
        /* Which errno it is depends on whether this kernel has the file. */
        printf("%s: %s\n", key, fd < 0 ? "refused" : "opened");
    }
    SAY("make a directory in /sys/fs/cgroup", mkdir("/sys/fs/cgroup/made", 0755));
    SAY("make a file in /proc/sys", open("/proc/sys/made", O_CREAT | O_WRONLY, 0644));
}

static void walls(const char *socket_name, const char *host_file) {
    SAY("unshare the user namespace", unshare(CLONE_NEWUSER));
    SAY("unshare the mount namespace", unshare(CLONE_NEWNS));
    SAY("mount", syscall(SYS_mount, "none", "/no/such/place", "tmpfs", 0, 0));
    SAY("remount", syscall(SYS_mount, "none", "/no/such/place", 0, MS_REMOUNT, 0));
    SAY("unmount", umount2("/proc/keys", MNT_DETACH));
    SAY("keyctl", syscall(SYS_keyctl, 0, -3, 1));
    SAY("set the host name", syscall(SYS_sethostname, "x", -1));
    SAY("set the time", syscall(SYS_clock_settime, 0, 0));
    SAY("raise a limit", setrlimit(RLIMIT_CORE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY}));
    SAY("open a terminal", open("/dev/tty", O_RDWR));
    SAY("make a terminal", posix_openpt(O_RDWR | O_NOCTTY));
    SAY("raw socket", socket(AF_INET, SOCK_RAW, 1));
    SAY("make a device", mknod("/tmp/mem", S_IFCHR | 0600, makedev(1, 1)));
    printf("content of that device: %s\n", content("/tmp/mem"));
    unlink("/tmp/mem");
    SAY("host's file", open(host_file, O_RDONLY));
    mkdir("/tmp/jail", 0755);
    SAY("chroot", chroot("/tmp/jail"));
    for (int i = 0; i < 64; i++)
        if (chdir("..")) break;
    SAY("host's file from behind a chroot", open(host_file + 1, O_RDONLY));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path + 1, socket_name, sizeof address.sun_path - 2);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(socket_name);
    SAY("host's abstract socket", connect(fd, (struct sockaddr *)&address, length));
}

static void crash(void) {
    pid_t pid = fork();
    if (!pid) {
        /* Were a limit all that is in the way. */
        setrlimit(RLIMIT_CORE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
        raise(SIGSEGV);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    printf("a crash: signal %d, core %d\n", WTERMSIG(status), WCOREDUMP(status) != 0);
}

int main(int count, char **arguments) {
    if (count < 4) return 2;
    int is_chroot = count > 4;
    setvbuf(stdout, 0, _IOLBF, 0);
    alarm(60);
    descriptors();
    identity();
    namespaces();
    devices("/dev");
    others(atoi(arguments[1]), is_chroot);
    masked();
    crash();
    walls(arguments[2], arguments[3]);
    return 0;
}
