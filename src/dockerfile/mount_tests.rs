use super::*;
use crate::dockerfile::{flags, text::Mapped};

fn parse(value: &str) -> Result<MountFlag, String> {
    let mut mapped = Mapped::default();
    mapped.push(&format!("--mount={value} x"), 0);
    let (flags, _) = flags::split(mapped.all(), '\\');
    MountFlag::parse(&flags[0], '\\').map_err(|error| error.message)
}

fn resolve(value: &str) -> RunMount {
    parse(value)
        .unwrap()
        .resolve(&mut |value| Ok(value.to_owned()))
        .unwrap()
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

#[test]
fn bind_mounts_are_read_only_unless_told_otherwise() {
    for (value, read_write) in [
        ("target=/x", false),
        ("type=bind,dst=/x", false),
        ("TYPE=Bind,Destination=/x", false),
        ("target=/x,rw", true),
        ("target=/x,readwrite=true", true),
        ("target=/x,rw=0", false),
        ("target=/x,ro=false", true),
        ("target=/x,readonly", false),
    ] {
        let target = "/x".to_owned();
        let expected = BindMount {
            from: None,
            source: None,
            target,
            read_write,
        };
        assert_eq!(resolve(value), RunMount::Bind(expected), "{value}");
    }
    let mount = resolve("from=Build,src=a,target=b/c");
    let target = "b/c".to_owned();
    let expected = BindMount {
        from: text("Build"),
        source: text("a"),
        target,
        read_write: false,
    };
    assert_eq!(mount, RunMount::Bind(expected));
}

#[test]
fn cache_mounts_have_their_defaults() {
    let plain = CacheMount {
        id: None,
        target: "/x".to_owned(),
        sharing: CacheSharing::Shared,
        from: None,
        source: None,
        mode: None,
        uid: None,
        gid: None,
        read_only: false,
    };
    assert_eq!(
        resolve("type=cache,target=/x"),
        RunMount::Cache(plain.clone())
    );
    let full = CacheMount {
        id: text("i"),
        sharing: CacheSharing::Locked,
        from: text("base"),
        source: text("/s"),
        mode: Some(0o700),
        uid: Some(1),
        gid: Some(2),
        read_only: true,
        ..plain
    };
    let value = "type=cache,id=i,target=/x,sharing=LOCKED,from=base,source=/s,mode=0700,uid=1,\
                 gid=2,ro";
    assert_eq!(resolve(value), RunMount::Cache(full));
}

#[test]
fn tmpfs_sizes_have_units() {
    for (size, bytes) in [
        ("size=1", 1),
        ("size=1k", 1 << 10),
        ("size=64m", 64 << 20),
        ("size=1.5GB", 3 << 29),
        ("tmpfs-size=2GiB", 2 << 30),
    ] {
        let expected = TmpfsMount {
            target: "/t".to_owned(),
            size: Some(bytes),
        };
        assert_eq!(
            resolve(&format!("type=tmpfs,target=/t,{size}")),
            RunMount::Tmpfs(expected)
        );
    }
    let expected = TmpfsMount {
        target: "/t".to_owned(),
        size: None,
    };
    assert_eq!(resolve("type=tmpfs,target=/t"), RunMount::Tmpfs(expected));
}

#[test]
fn secrets_are_named_by_id_source_or_target() {
    for (value, id, target, env, required) in [
        ("id=a", "a", Some("/run/secrets/a"), None, false),
        ("src=a/b", "a/b", Some("/run/secrets/b"), None, false),
        (
            "target=/root/.npmrc",
            ".npmrc",
            Some("/root/.npmrc"),
            None,
            false,
        ),
        ("id=a,env=TOKEN", "a", None, Some("TOKEN"), false),
        (
            "id=a,env=TOKEN,target=/t,required",
            "a",
            Some("/t"),
            Some("TOKEN"),
            true,
        ),
        (
            "required=true,id=a",
            "a",
            Some("/run/secrets/a"),
            None,
            true,
        ),
        (
            "required=F,id=a,ro",
            "a",
            Some("/run/secrets/a"),
            None,
            false,
        ),
    ] {
        let expected = SecretMount {
            id: id.to_owned(),
            target: target.map(str::to_owned),
            env: env.map(str::to_owned),
            required,
            mode: None,
            uid: None,
            gid: None,
        };
        // The type may stand last.
        assert_eq!(
            resolve(&format!("{value},type=secret")),
            RunMount::Secret(expected),
            "{value}"
        );
    }
}

#[test]
fn ssh_mounts_have_a_default_agent() {
    let plain = SshMount {
        id: "default".to_owned(),
        target: None,
        required: false,
        mode: None,
        uid: None,
        gid: None,
    };
    assert_eq!(resolve("type=ssh"), RunMount::Ssh(plain));
    let full = SshMount {
        id: "k".to_owned(),
        target: text("/s"),
        required: true,
        mode: Some(0o600),
        uid: Some(5),
        gid: Some(6),
    };
    let value = "type=ssh,id=k,target=/s,required,mode=600,uid=5,gid=6";
    assert_eq!(resolve(value), RunMount::Ssh(full));
}

#[test]
fn wrong_mounts_are_errors() {
    for (value, message) in [
        (
            "type=bin,target=/x",
            "unsupported mount type \"bin\" (did you mean bind?)",
        ),
        ("type=volume,target=/x", "unsupported mount type \"volume\""),
        (
            "tpe=bind",
            "unexpected key 'tpe' in 'tpe=bind' (did you mean type?)",
        ),
        ("x=1,target=$t", "unexpected key 'x' in 'x=1'"),
        ("target", "invalid field 'target' must be a key=value pair"),
        ("bogus", "invalid field 'bogus' must be a key=value pair"),
        ("target=/", "invalid mount target \"/\""),
        ("target=/./", "invalid mount target \"/./\""),
        ("from=$x,target=/y", FROM_EXPANSION),
        (
            "type=bind,target=/x,required",
            "unexpected key 'required' for mount type 'bind'",
        ),
        (
            "type=cache,target=/x,size=1",
            "unexpected key 'size' for mount type 'cache'",
        ),
        (
            "type=bind,target=/x,id=i",
            "unexpected key 'id' for mount type 'bind'",
        ),
        (
            "type=ssh,src=x",
            "unexpected key 'src' for mount type 'ssh'",
        ),
        (
            "type=secret,id=x,rw",
            "unexpected key 'rw' for mount type 'secret'",
        ),
        (
            "type=bind,target=/x,mode=0755",
            "mode not allowed for \"bind\" type mounts",
        ),
        (
            "type=tmpfs,target=/x,uid=1",
            "uid not allowed for \"tmpfs\" type mounts",
        ),
        (
            "type=bind,target=/x,sharing=shared",
            "invalid cache sharing set for bind mount",
        ),
        (
            "type=secret,id=x,from=y",
            "secret mount should not have a from",
        ),
        (
            "type=secret",
            "invalid secret mount. one of source, target required",
        ),
        (
            "type=secret,env=X",
            "invalid secret mount. one of source, target required",
        ),
        ("type=secret,id=a,src=b", "both source and id can't be set"),
        (
            "type=cache,target=/x,sharing=share",
            "unsupported sharing value \"share\" (did you mean shared?)",
        ),
        ("type=cache,target=/x,mode=8", "invalid value 8 for mode"),
        ("type=cache,target=/x,mode=+7", "invalid value +7 for mode"),
        ("type=cache,target=/x,uid=-1", "invalid value -1 for uid"),
        ("type=cache,target=/x,gid=a", "invalid value a for gid"),
        ("type=tmpfs,target=/x,size=1x", "invalid value for size: 1x"),
        ("type=tmpfs,target=/x,size=-1", "invalid value for size: -1"),
        ("target=/x,ro=maybe", "invalid value for ro: maybe"),
        ("", "missing a value on flag: --mount"),
    ] {
        assert_eq!(parse(value), Err(message.to_owned()), "{value}");
    }
}

const FROM_EXPANSION: &str =
    "'from' doesn't support variable expansion, define alias stage instead";

#[test]
fn values_with_variables_are_checked_after_expansion() {
    let flag = parse("type=$t,target=/x,mode=$m").unwrap();
    let mut env = |value: &str| Ok(value.replace("$t", "cache").replace("$m", "0700"));
    let RunMount::Cache(cache) = flag.resolve(&mut env).unwrap() else {
        panic!("not a cache")
    };
    assert_eq!(cache.mode, Some(0o700));
    let mut env = |value: &str| Ok(value.replace("$t", "cache").replace("$m", "x"));
    let error = flag.resolve(&mut env).unwrap_err();
    assert_eq!(error.message, "invalid value x for mode");
    assert_eq!(error.span, Span::new(26, 33));
    let error = flag
        .resolve(&mut |_| Err(WordError::MissingBrace))
        .unwrap_err();
    assert_eq!(error.message, "syntax error: missing '}'");
}

#[test]
fn a_field_in_double_quotes_may_hold_commas() {
    let RunMount::Bind(bind) = resolve(r#"\"target=/a,b\",source=c"#) else {
        panic!("not a bind mount")
    };
    assert_eq!(bind.target, "/a,b");
}

#[test]
fn the_from_of_a_mount_is_known_without_resolving() {
    let flag = parse("type=bind,from=Build,target=$x").unwrap();
    assert_eq!(
        flag.from,
        Some(Spanned::new("Build".to_owned(), Span::new(23, 28)))
    );
}
