//! `rbuild load`, `rbuild image load`.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Exit, platform, session, stored};
use crate::image::{self, Loaded};
use crate::layer::is_compressed;
use crate::oci::Platform;
use crate::progress::Mode;
use crate::store::Store;

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// The archive, docker's or OCI, compressed or not [default: stdin]
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Load only these platforms of an index, OS/ARCH[/VARIANT] with commas between them; repeatable
    #[arg(long = "platform", value_name = "PLATFORM")]
    platforms: Vec<String>,
    /// Say nothing but what was loaded
    #[arg(short, long)]
    quiet: bool,
}

/// Runs `rbuild load`.
pub(super) fn run(arguments: &LoadArgs, root: &Path) -> Exit {
    let platforms = match platform::parse_several(&arguments.platforms) {
        Ok(platforms) => platforms,
        Err(message) => return stored::usage(&message),
    };
    let input = match &arguments.input {
        Some(path) => match File::open(path) {
            Ok(file) => Some((path.clone(), file)),
            Err(error) => {
                super::report::print_error(&format!("cannot open {}: {error}", path.display()));
                return Exit::Failed;
            }
        },
        None if io::stdin().is_terminal() => {
            return stored::usage("requested load from stdin, but stdin is empty");
        }
        None => None,
    };
    let session = match session::start(root, Mode::Quiet) {
        Ok(session) => session,
        Err(exit) => return exit,
    };
    let loaded = load(&session.store, input, &platforms);
    session.finish();
    session::exit(match loaded {
        Ok(loaded) => stored::print(&loaded.iter().map(line).collect::<String>()),
        Err(error) => stored::fail(&error),
    })
}

fn load(
    store: &Store,
    input: Option<(PathBuf, File)>,
    platforms: &[Platform],
) -> Result<Vec<Loaded>, image::Error> {
    let (name, mut archive): (String, Box<dyn Read>) = match input {
        Some((path, file)) => {
            let mut magic = [0; 6];
            let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
            let count = file.read_at(&mut magic, 0).unwrap_or_default();
            if is_file && !is_compressed(&magic[..count]) {
                return image::load(store, &path, platforms);
            }
            (path.display().to_string(), Box::new(file))
        }
        None => ("stdin".to_owned(), Box::new(io::stdin().lock())),
    };
    let spooled = image::spool(store, archive.as_mut(), &name)?;
    image::load(store, spooled.path(), platforms)
}

fn line(loaded: &Loaded) -> String {
    match loaded {
        Loaded::Named(name) => format!("Loaded image: {name}\n"),
        Loaded::Unnamed(id) => format!("Loaded image ID: {id}\n"),
    }
}
