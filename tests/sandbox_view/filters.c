/* What the filters of a sandbox answer to every system call, without making one of them.
 *
 * Of several seccomp filters that judge a call the kernel takes the strictest verdict, and an errno is
 * stricter than SECCOMP_RET_TRACE. So a child puts a filter on itself that traces everything: what the
 * sandbox refuses comes back with its errno, what it lets pass stops at the parent, which skips the call.
 *
 * Prints lines "x86_64|x32|i386 NUMBER ANSWER" and "CALL VALUE ANSWER", where the answer is `passed`, the
 * name of an errno, or `answered` for a call that somebody else has answered. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum abi { X86_64, X32, I386 };
static const char *const abis[] = {"x86_64", "x32", "i386"};

/* No errno of the kernel. */
#define PASSED (-7777)
#define NUMBERS 601
/* uretprobe and uprobe, of which the kernel asks no filter (since Linux 6.13). */
#define UNFILTERED(abi, number) ((abi) == X86_64 && ((number) == 335 || (number) == 336))
#define X32_BIT 0x40000000
#define HIGH(value) ((1UL << 32) + (value))

static struct {
    volatile int is_probing;
    long answers[3][NUMBERS];
    long calls[1024];
} *shared;

static long call(enum abi abi, long number, long one, long two) {
    long result;
    shared->is_probing = 1;
    if (abi == I386) {
        __asm__ volatile("int $0x80"
                         : "=a"(result)
                         : "a"(number), "b"(one), "c"(two), "d"(-1L), "S"(-1L), "D"(-1L)
                         : "memory", "r8", "r9", "r10", "r11");
        result = (int)result;
    } else {
        register long r10 __asm__("r10") = -1, r8 __asm__("r8") = -1, r9 __asm__("r9") = -1;
        __asm__ volatile("syscall"
                         : "=a"(result)
                         : "a"(abi == X32 ? number | X32_BIT : number), "D"(one), "S"(two), "d"(-1L),
                           "r"(r10), "r"(r8), "r"(r9)
                         : "memory", "rcx", "r11");
    }
    shared->is_probing = 0;
    return result;
}

/* Calls whose answer depends on an argument. */
struct attempt {
    const char *name;
    enum abi abi;
    int number;
    unsigned long one, two;
    int shown;
};

static struct attempt attempts[1024];
static int many;

static void attempt(const char *name, enum abi abi, int number, unsigned long one, unsigned long two, int shown) {
    attempts[many++] = (struct attempt){name, abi, number, one, two, shown};
}

#define LENGTH(array) (sizeof(array) / sizeof *(array))

static void vary_first(const char *name, enum abi abi, int number, unsigned long high, const unsigned long *values, int count) {
    for (int i = 0; i < count; i++) attempt(name, abi, number, high + values[i], 1, 0);
}

static void vary_second(const char *name, enum abi abi, int number, unsigned long high, const unsigned long *values, int count) {
    for (int i = 0; i < count; i++) attempt(name, abi, number, 0, high + values[i], 1);
}

static void plan(void) {
    unsigned long families[47];
    for (unsigned i = 0; i < LENGTH(families); i++) families[i] = i;
    vary_first("socket", X86_64, SYS_socket, 0, families, LENGTH(families));
    vary_first("socket+2^32", X86_64, SYS_socket, HIGH(0), families, LENGTH(families));
    vary_first("i386:socket", I386, 359, 0, families, LENGTH(families));
    vary_first("socketpair", X86_64, SYS_socketpair, 0, families, LENGTH(families));
    vary_first("socketpair+2^32", X86_64, SYS_socketpair, HIGH(0), families, LENGTH(families));
    vary_first("i386:socketpair", I386, 360, 0, families, LENGTH(families));
    /* socketcall(SYS_SOCKET) would hide the family. */
    attempt("i386:socketcall", I386, 102, 1, 0, 0);

    static const unsigned long requests[] = {TCGETS, TIOCSTI, TIOCGWINSZ, TIOCLINUX};
    vary_second("ioctl", X86_64, SYS_ioctl, 0, requests, LENGTH(requests));
    vary_second("ioctl+2^32", X86_64, SYS_ioctl, HIGH(0), requests, LENGTH(requests));
    vary_second("ioctl+2^63", X86_64, SYS_ioctl, 1UL << 63, requests, LENGTH(requests));
    vary_second("i386:ioctl", I386, 54, 0, requests, LENGTH(requests));

    static const unsigned long personalities[] = {0, 1, 8, 0x20000, 0x20008, 0x40000, 0x400000, 0x800000, 0xffffffff};
    vary_first("personality", X86_64, SYS_personality, 0, personalities, LENGTH(personalities));
    vary_first("personality+2^32", X86_64, SYS_personality, HIGH(0), personalities, LENGTH(personalities));
    vary_first("i386:personality", I386, 136, 0, personalities, LENGTH(personalities));

    static const unsigned long flags[] = {
        0, SIGCHLD, CLONE_VM | CLONE_VFORK | SIGCHLD, CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
        CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNS | SIGCHLD,
    };
    vary_first("clone", X86_64, SYS_clone, 0, flags, LENGTH(flags));
    vary_first("clone+2^32", X86_64, SYS_clone, HIGH(0), flags, LENGTH(flags));
    vary_first("i386:clone", I386, 120, 0, flags, LENGTH(flags));
    vary_first("unshare", X86_64, SYS_unshare, 0, flags, LENGTH(flags));

    static const unsigned long traces[] = {PTRACE_TRACEME, PTRACE_PEEKDATA, PTRACE_CONT, PTRACE_ATTACH, PTRACE_SEIZE};
    vary_first("ptrace", X86_64, SYS_ptrace, 0, traces, LENGTH(traces));
    vary_first("ptrace+2^32", X86_64, SYS_ptrace, HIGH(0), traces, LENGTH(traces));
    vary_first("i386:ptrace", I386, 26, 0, traces, LENGTH(traces));

    static const unsigned long options[] = {PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_MM, PR_SET_NO_NEW_PRIVS, PR_SET_PTRACER};
    vary_first("prctl", X86_64, SYS_prctl, 0, options, LENGTH(options));
}

static void child(void) {
    struct sock_filter trace[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE)};
    struct sock_fprog program = {1, trace};
    if (ptrace(PTRACE_TRACEME, 0, 0, 0)) _exit(101);
    raise(SIGSTOP);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) _exit(102);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) _exit(103);
    for (int abi = X86_64; abi <= I386; abi++)
        for (int number = 0; number < NUMBERS; number++)
            if (!UNFILTERED(abi, number)) shared->answers[abi][number] = call(abi, number, -1, -1);
    for (int i = 0; i < many; i++)
        shared->calls[i] = call(attempts[i].abi, attempts[i].number, attempts[i].one, attempts[i].two);
    _exit(0);
}

static int watch(pid_t pid) {
    int status;
    waitpid(pid, &status, 0);
    if (ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL)) {
        perror("ptrace");
        return 1;
    }
    for (int signal = 0;; signal = 0) {
        if (ptrace(PTRACE_CONT, pid, 0, signal)) break;
        if (waitpid(pid, &status, 0) < 0 || WIFEXITED(status) || WIFSIGNALED(status)) break;
        if (status >> 8 != (SIGTRAP | PTRACE_EVENT_SECCOMP << 8)) {
            signal = WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);
            continue;
        }
        if (!shared->is_probing) continue;
        ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs.orig_rax), -1L);
        ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs.rax), (long)PASSED);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status)) fprintf(stderr, "the child ended with %#x\n", status);
    return !WIFEXITED(status) || WEXITSTATUS(status);
}

static const char *name(long answer) {
    switch (answer) {
    case PASSED: return "passed";
    case -EPERM: return "EPERM";
    case -ENOSYS: return "ENOSYS";
    default: return "answered";
    }
}

int main(void) {
    shared = mmap(0, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    plan();
    alarm(100);
    pid_t pid = fork();
    if (!pid) child();
    if (watch(pid)) return 1;
    for (int abi = X86_64; abi <= I386; abi++)
        for (int number = 0; number < NUMBERS; number++)
            if (!UNFILTERED(abi, number))
                printf("%s %d %s\n", abis[abi], number, name(shared->answers[abi][number]));
    for (int i = 0; i < many; i++) {
        struct attempt *a = &attempts[i];
        printf("%s %#lx %s\n", a->name, (a->shown ? a->two : a->one) & 0xffffffff, name(shared->calls[i]));
    }
    return 0;
}
