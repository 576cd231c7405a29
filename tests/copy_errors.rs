//! What COPY and ADD cannot do, and what they say then.

use crate::copy_rules::context;
use crate::rig::Rig;

#[test]
fn what_cannot_be_copied_says_why() {
    let rig = Rig::new();
    context(&rig);
    rig.write("tree/passwd/file", "")
        .write(".dockerignore", "hidden");
    rig.write("hidden", "");
    let _listener = std::os::unix::net::UnixListener::bind(rig.context().join("socket")).unwrap();
    for (dockerfile, message) in [
        (
            "COPY a",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("COPY none /x", "\"/none\": not found"),
        ("COPY dirr/x /x", "did you mean \"/dir\"?"),
        ("COPY hidden /x", ".dockerignore:1 hides it"),
        ("COPY a/b /x", "\"/a/b\": not found"),
        ("COPY socket /x", "it is a socket"),
        (
            "COPY a b /x",
            "when using COPY with more than one source file, the destination must be a directory and end with a /",
        ),
        (
            "ADD a b /x",
            "when using ADD with more than one source file",
        ),
        (
            "COPY dir /etc/passwd",
            "cannot copy to non-directory: /etc/passwd",
        ),
        (
            "COPY a /etc/passwd/x",
            "cannot copy to non-directory: /etc/passwd",
        ),
        (
            "COPY tree/passwd/file /etc/passwd/",
            "cannot copy to non-directory: /etc/passwd",
        ),
        (
            "RUN mkdir /d /d/a\nCOPY a /d",
            "cannot replace to directory /d/a with file",
        ),
        (
            "COPY tree /etc",
            "cannot copy to non-directory: /etc/passwd",
        ),
        ("COPY [z /x", "syntax error in pattern"),
        (
            "COPY --chmod=8 a /x",
            "invalid chmod parameter: '8'. it should be octal string and between 0 and 07777",
        ),
        (
            "COPY --chmod=10000 a /x",
            "invalid chmod parameter: '10000'",
        ),
        (
            "ARG m=u+q\nCOPY --chmod=$m a /x",
            "invalid chmod parameter: 'u+q'",
        ),
        (
            "COPY --chown=apq a /x",
            "unable to find user apq: no matching entries in passwd file (did you mean app?)",
        ),
        (
            "COPY --chown=root:stafff a /x",
            "unable to find group stafff: no matching entries in group file (did you mean staff?)",
        ),
        (
            "COPY --chown=nobodyknows a /x",
            "unable to find user nobodyknows: no matching entries in passwd file",
        ),
        (
            "FROM scratch\nCOPY --chown=app a /x",
            "unable to find user app",
        ),
        (
            "COPY --chown=4294967295 a /x",
            "is not between 0 and 4294967294",
        ),
        ("COPY --from=base /none /x", "\"/none\": not found"),
        ("COPY --checksum=sha256:0 a /x", "unknown flag: --checksum"),
        (
            "ADD --checksum=sha256:0 a /x",
            "checksum requires HTTP(S) or Git sources",
        ),
        (
            "ADD --checksum=sha256:0 a b /x/",
            "checksum can't be specified for multiple sources",
        ),
        (
            "COPY https://example.invalid/f /x",
            "source can't be a URL for COPY",
        ),
        (
            "COPY git@example.invalid:a/b.git /x",
            "source can't be a git ref for COPY",
        ),
        (
            "COPY https://example.invalid/f.git /x",
            "source can't be a git ref for COPY",
        ),
        ("COPY --parents a[ /x", "syntax error in pattern"),
        ("COPY --unpack a /x", "unknown flag: --unpack"),
        ("ADD --parents a /x", "unknown flag: --parents"),
        (
            "COPY --link=maybe a /x",
            "expecting boolean value for flag --link, not: maybe",
        ),
        (
            "COPY --exclude=[z . /x",
            "invalid excludepatterns: syntax error in pattern",
        ),
        ("COPY --exclude=! . /x", "illegal exclusion pattern: \"!\""),
        (
            "ARG e=[z\nCOPY --exclude=$e . /x",
            "invalid excludepatterns",
        ),
        ("COPY --parents none/x /x", "\"/none/x\": not found"),
        ("COPY --parents to-dir/x /x", "\"/to-dir/x\": not found"),
        ("COPY --parents none/./d* /x", "\"/none\": not found"),
        ("COPY --parents hidden /x", ".dockerignore:1 hides it"),
        (
            "COPY --link --chown=app a /x",
            "--chown=app cannot be used with --link",
        ),
        (
            "ARG u=app\nCOPY --link --chown=$u a /x",
            "--chown=app cannot be used with --link",
        ),
    ] {
        rig.dockerfile(&format!("FROM base\n{dockerfile}"));
        let outcome = rig.build(&[]);
        let is_last = outcome.code == Some(1) && outcome.stderr.contains(message);
        assert!(
            is_last,
            "{dockerfile}: {:?}\n{}",
            outcome.code, outcome.stderr
        );
        assert!(outcome.stderr.contains("Dockerfile:"), "{}", outcome.stderr);
    }
}

#[test]
fn a_socket_in_a_directory_is_left_out_and_said() {
    let rig = Rig::new();
    rig.write("d/file", "");
    let _listener = std::os::unix::net::UnixListener::bind(rig.context().join("d/socket")).unwrap();
    rig.dockerfile("FROM base\nCOPY d /d");
    rig.build(&[]).succeeds().says(&["/d/socket", "left out"]);
}
