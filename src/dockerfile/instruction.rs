//! The typed instructions of a Dockerfile. Values are unexpanded unless a comment says so.

use super::{
    duration::Duration,
    mount::MountFlag,
    span::{Span, Spanned},
};

/// One instruction with its arguments. FROM is not here: it opens a `Stage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Instruction {
    Add(AddInstruction),
    Arg(Vec<ArgDeclaration>),
    Cmd(ShellOrExec),
    Copy(CopyInstruction),
    Entrypoint(ShellOrExec),
    Env(KeyValues),
    Expose(Vec<Spanned<String>>),
    Healthcheck(Healthcheck),
    Label(KeyValues),
    Maintainer(Spanned<String>),
    Onbuild(OnbuildInstruction),
    Run(RunInstruction),
    Shell(Vec<String>),
    Stopsignal(Spanned<String>),
    User(Spanned<String>),
    Volume(Vec<Spanned<String>>),
    Workdir(Spanned<String>),
}

/// `name` or `name=default` of an ARG line; both are raw words with their quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArgDeclaration {
    pub(crate) name: Spanned<String>,
    /// `None` when no `=` was written; `Some("")` for `name=`.
    pub(crate) default: Option<Spanned<String>>,
}

/// The pairs of an ENV or LABEL line in the order written; keys and values are raw words with
/// their quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyValues {
    pub(crate) pairs: Vec<(Spanned<String>, Spanned<String>)>,
    /// Written as `ENV key the rest`, with a blank instead of `=`.
    pub(crate) legacy: bool,
}

/// A command line in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ShellOrExec {
    /// Text for the shell, as one argument.
    Shell(Spanned<String>),
    /// The argument vector of a JSON array; may be empty.
    Exec(Spanned<Vec<String>>),
}

/// A here-document of a RUN, COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heredoc {
    pub(crate) name: String,
    /// The delimiter was not quoted: COPY and ADD expand variables in the body.
    pub(crate) expand: bool,
    /// Written `<<-`: leading tabs of the body count as indentation only.
    pub(crate) strip_tabs: bool,
    /// The descriptor before `<<`, 0 when none is written.
    pub(crate) fd: u32,
    /// The lines between marker and terminator exactly as in the source, tabs included, each with
    /// its line end.
    pub(crate) body: String,
    pub(crate) body_span: Span,
    /// The line that ends the document, without its line end.
    pub(crate) terminator: Span,
}

impl Heredoc {
    /// The body as the file that it stands for: without leading tabs when written `<<-`.
    pub(crate) fn contents(&self) -> String {
        if !self.strip_tabs {
            return self.body.clone();
        }
        self.body
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }
}

/// One source of COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A path, a pattern or (ADD only) an address.
    Path(Spanned<String>),
    Heredoc(Heredoc),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CopyInstruction {
    pub(crate) sources: Vec<Source>,
    pub(crate) destination: Spanned<String>,
    pub(crate) from: Option<Spanned<String>>,
    pub(crate) chown: Option<Spanned<String>>,
    pub(crate) chmod: Option<Spanned<String>>,
    /// `None` when the flag is absent.
    pub(crate) link: Option<bool>,
    pub(crate) parents: bool,
    pub(crate) excludes: Vec<Spanned<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddInstruction {
    /// Everything ADD shares with COPY; `from` is always `None` and `parents` false.
    pub(crate) copy: CopyInstruction,
    pub(crate) checksum: Option<Spanned<String>>,
    /// `None` when the flag is absent.
    pub(crate) keep_git_dir: Option<bool>,
    /// `None` when the flag is absent: archives of the build context are unpacked, downloads not.
    pub(crate) unpack: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunNetwork {
    Default,
    None,
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunSecurity {
    Sandbox,
    Insecure,
}

/// `--device=[name=]vendor/class=device[,required]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunDevice {
    pub(crate) name: String,
    pub(crate) required: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunInstruction {
    pub(crate) command: ShellOrExec,
    pub(crate) heredocs: Vec<Heredoc>,
    pub(crate) mounts: Vec<MountFlag>,
    pub(crate) network: Option<Spanned<RunNetwork>>,
    pub(crate) security: Option<Spanned<RunSecurity>>,
    pub(crate) devices: Vec<Spanned<RunDevice>>,
}

/// What a RUN starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunScript {
    /// Text for the stage's shell, as one argument.
    Shell(String),
    /// A heredoc that starts with `#!`: a file to make executable and start without the shell.
    File { name: String, contents: String },
    /// An argument vector, started as it is.
    Exec(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Healthcheck {
    None,
    Check {
        test: ShellOrExec,
        interval: Option<Duration>,
        timeout: Option<Duration>,
        start_period: Option<Duration>,
        start_interval: Option<Duration>,
        retries: Option<u32>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OnbuildInstruction {
    /// The trigger as the image configuration stores it, heredocs included.
    pub(crate) trigger: String,
    pub(crate) parsed: Box<super::Statement>,
}
