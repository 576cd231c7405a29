//! RUN, COPY and ADD.

use super::{
    arguments::{self, Context, Head},
    csv,
    diagnostic::Diagnostic,
    flags::{Flag, Flags, Kind},
    heredoc::{self, Marker},
    instruction::{
        AddInstruction, CopyInstruction, Heredoc, Instruction, RunDevice, RunInstruction,
        RunNetwork, RunScript, RunSecurity, ShellOrExec, Source,
    },
    mount::{self, MountFlag},
    nearest::nearest,
    span::Spanned,
};

const RUN_FLAGS: [(&str, Kind); 4] = [
    ("mount", Kind::Values),
    ("network", Kind::Value),
    ("security", Kind::Value),
    ("device", Kind::Values),
];

const COPY_FLAGS: [(&str, Kind); 6] = [
    ("from", Kind::Value),
    ("chown", Kind::Value),
    ("chmod", Kind::Value),
    ("link", Kind::Switch),
    ("parents", Kind::Switch),
    ("exclude", Kind::Values),
];

const ADD_FLAGS: [(&str, Kind); 7] = [
    ("chown", Kind::Value),
    ("chmod", Kind::Value),
    ("link", Kind::Switch),
    ("checksum", Kind::Value),
    ("keep-git-dir", Kind::Switch),
    ("unpack", Kind::Switch),
    ("exclude", Kind::Values),
];

pub(crate) fn run(
    head: &mut Head<'_>,
    heredocs: Vec<Heredoc>,
    cx: &mut Context<'_>,
) -> Option<Instruction> {
    let flags = head.flags(&RUN_FLAGS, cx);
    let mut mounts = Vec::new();
    for flag in flags.all("mount") {
        match MountFlag::parse(flag, cx.escape) {
            Ok(mount) => mounts.push(mount),
            Err(error) => cx.error(error),
        }
    }
    let network = choice(
        &flags,
        "network",
        cx,
        &[
            ("default", RunNetwork::Default),
            ("none", RunNetwork::None),
            ("host", RunNetwork::Host),
        ],
    );
    let security = choice(
        &flags,
        "security",
        cx,
        &[
            ("sandbox", RunSecurity::Sandbox),
            ("insecure", RunSecurity::Insecure),
        ],
    );
    let mut devices = Vec::new();
    for flag in flags.all("device") {
        match device(flag) {
            Ok(device) => devices.push(device),
            Err(error) => cx.error(error),
        }
    }
    let command = arguments::command(head.arguments, cx)?;
    let empty = match &command {
        ShellOrExec::Shell(text) => text.value.is_empty(),
        ShellOrExec::Exec(list) => list.value.is_empty(),
    };
    if empty {
        head.missing("at least one argument", cx);
        return None;
    }
    Some(Instruction::Run(RunInstruction {
        command,
        heredocs,
        mounts,
        network,
        security,
        devices,
    }))
}

/// A flag whose value is one of a few words.
fn choice<T: Copy>(
    flags: &Flags,
    name: &str,
    cx: &mut Context<'_>,
    choices: &[(&str, T)],
) -> Option<Spanned<T>> {
    let value = flags.value(name)?;
    if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == value.value) {
        return Some(Spanned::new(*choice, value.span));
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let mut message = format!("invalid {name} mode {:?}", value.value);
    if let Some(candidate) = nearest(&value.value, words.iter().copied()) {
        message.push_str(&format!(" (did you mean {candidate}?)"));
    }
    cx.error(
        Diagnostic::new(value.span, message).with_help(format!("known: {}", words.join(", "))),
    );
    None
}

/// Reads `[name=]vendor/class=device[,required]`.
fn device(flag: &Flag) -> Result<Spanned<RunDevice>, Diagnostic> {
    let fields = match &flag.value {
        Some(value) => csv::parse(value)?,
        None => Vec::new(),
    };
    let mut name = None;
    let mut required = false;
    for field in fields {
        let value = field.value.map(|value| value.value);
        match (field.key.as_str(), value) {
            ("required", None) => required = true,
            ("required", Some(value)) => {
                required = mount::parse_boolean(&value).ok_or_else(|| {
                    let message = format!("invalid value for required: {value}");
                    Diagnostic::new(field.span, message)
                })?;
            }
            ("name", Some(value)) if name.is_none() => name = Some(value),
            (_, _) if name.is_none() => name = Some(field.text),
            _ => {
                let message = format!("unexpected key '{}' in '{}'", field.key, field.text);
                return Err(Diagnostic::new(field.span, message));
            }
        }
    }
    match name.filter(|name| !name.is_empty()) {
        Some(name) => Ok(Spanned::new(RunDevice { name, required }, flag.span)),
        None => Err(Diagnostic::new(flag.span, "device name is missing")
            .with_help("write `--device=vendor/class=name`")),
    }
}

impl RunInstruction {
    /// What to start: heredocs are put back behind the line, or stand for the command when one of
    /// them is all there is. Its text is never expanded by the builder.
    pub(crate) fn script(&self) -> RunScript {
        let text = match &self.command {
            ShellOrExec::Exec(list) => return RunScript::Exec(list.value.clone()),
            ShellOrExec::Shell(text) => text.value.as_str(),
        };
        if let ([document], Some(_)) = (self.heredocs.as_slice(), heredoc::marker(text.trim())) {
            let contents = document.contents();
            // BuildKit looks for the interpreter before it takes the tabs away.
            return if document.body.starts_with("#!") {
                RunScript::File {
                    name: document.name.clone(),
                    contents,
                }
            } else {
                RunScript::Shell(contents)
            };
        }
        let mut script = text.to_owned();
        for document in &self.heredocs {
            script.push('\n');
            script.push_str(&document.body);
            script.push_str(&document.name);
        }
        RunScript::Shell(script)
    }
}

pub(crate) fn copy(
    head: &mut Head<'_>,
    markers: &[Marker],
    heredocs: Vec<Heredoc>,
    cx: &mut Context<'_>,
) -> Option<Instruction> {
    let flags = head.flags(&COPY_FLAGS, cx);
    if let Some(from) = flags.value("from").filter(|from| from.value.contains('$')) {
        let message = "variable expansion is not supported for --from, define a new stage with \
                       FROM using ARG from global scope as a workaround";
        cx.error(Diagnostic::new(from.span, message));
    }
    sources_and_destination(head, &flags, markers, heredocs, cx).map(Instruction::Copy)
}

pub(crate) fn add(
    head: &mut Head<'_>,
    markers: &[Marker],
    heredocs: Vec<Heredoc>,
    cx: &mut Context<'_>,
) -> Option<Instruction> {
    let flags = head.flags(&ADD_FLAGS, cx);
    Some(Instruction::Add(AddInstruction {
        copy: sources_and_destination(head, &flags, markers, heredocs, cx)?,
        checksum: flags.value("checksum"),
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
    }))
}

fn sources_and_destination(
    head: &Head<'_>,
    flags: &Flags,
    markers: &[Marker],
    heredocs: Vec<Heredoc>,
    cx: &mut Context<'_>,
) -> Option<CopyInstruction> {
    let mut sources = if markers.is_empty() {
        head.list(cx)?.into_iter().map(Source::Path).collect()
    } else {
        words_and_heredocs(head, markers, heredocs)
    };
    if sources.len() < 2 {
        let what = "at least two arguments, but only one was provided. Destination could not be \
                    determined";
        head.missing(what, cx);
        return None;
    }
    let destination = match sources.pop()? {
        Source::Path(path) => path,
        Source::Heredoc(_) => {
            let message = format!("{} cannot accept a heredoc as a destination", head.name());
            cx.error(
                Diagnostic::new(head.arguments.span(), message)
                    .with_help("the destination stands last"),
            );
            return None;
        }
    };
    Some(CopyInstruction {
        sources,
        destination,
        from: flags.value("from"),
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link"),
        parents: flags.switch("parents").unwrap_or(false),
        excludes: flags.values("exclude"),
    })
}

/// The arguments in order, each heredoc in the place of its marker.
fn words_and_heredocs(head: &Head<'_>, markers: &[Marker], heredocs: Vec<Heredoc>) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut documents = markers.iter().zip(heredocs).peekable();
    let mut skip_to = 0;
    for word in head.arguments.words() {
        let offset = word.start() - head.arguments.start();
        if offset < skip_to {
            continue;
        }
        match documents.next_if(|(marker, _)| marker.range.start <= offset) {
            Some((marker, document)) => {
                skip_to = marker.range.end;
                sources.push(Source::Heredoc(document));
            }
            None => sources.push(Source::Path(word.to_spanned())),
        }
    }
    sources
}
