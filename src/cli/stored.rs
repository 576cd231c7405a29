//! What the commands on stored images share: the store, the lines they print, and why they fail.

use std::borrow::Cow;
use std::error::Error;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::Exit;
use super::report::{self, Report, print_error};
use super::session;
use crate::build::log_lines::visible;
use crate::image::{self, Filter, Image};
use crate::oci::Platform;
use crate::ownership::Ownership;
use crate::store::{self, Exclusive, View};

/// How long a removal waits for a build to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// The images of the store; none where there is no store yet.
pub(super) fn images(root: &Path) -> Result<(Option<View>, Vec<Image>), Exit> {
    let view = View::open(root).map_err(|error| fail(&error))?;
    let images = match &view {
        Some(view) => image::list(view).map_err(|error| fail(&error))?,
        None => Vec::new(),
    };
    Ok((view, images))
}

/// The image that `text` means, for `platform` if that matters: in the store, else the layout or archive
/// at that path.
pub(super) fn find(
    (view, images): &(Option<View>, Vec<Image>),
    text: &str,
    platform: Option<&Platform>,
) -> Result<Image, image::Error> {
    let found = match view {
        Some(view) => image::find_for(view, images, text, platform),
        None => image::find(images, text),
    };
    match found {
        Ok(found) => Ok(found),
        Err(error @ image::Error::Platform { .. }) => Err(error),
        Err(error) => match image::open(text, platform)? {
            Some(found) => Ok(found),
            None => Err(error),
        },
    }
}

/// Enters the user namespace, whose ids the snapshots belong to. Must be called while the process has
/// one thread.
pub(super) fn enter() -> Result<Ownership, Exit> {
    session::enter().map(|entered| entered.ownership)
}

/// The store for removals; `None` where there is none yet.
pub(super) fn exclusive(
    root: &Path,
    ownership: &Ownership,
) -> Result<Option<Exclusive>, store::Error> {
    Exclusive::open(root, ownership, PATIENCE)
}

/// Prints `error` with its causes.
pub(super) fn fail(error: &(dyn Error + 'static)) -> Exit {
    let is_busy = std::iter::successors(Some(error), |&error| error.source())
        .any(|error| matches!(error.downcast_ref(), Some(store::Error::Busy { .. })));
    report::print(&Report {
        title: error.to_string(),
        causes: report::causes_of(error),
        help: is_busy.then(|| "try again when the build has ended".to_owned()),
        ..Report::default()
    });
    Exit::Failed
}

/// Says on standard error what the user may want to know.
pub(super) fn note(message: &str) {
    report::print(&Report {
        title: message.to_owned(),
        warning: true,
        ..Report::default()
    });
}

/// Writes `text` to standard output. A closed one is no success. Programs get it as it is; what an image
/// says must not steer a terminal.
pub(super) fn print(text: &str) -> Exit {
    let mut out = std::io::stdout().lock();
    let text = match out.is_terminal() {
        true => Cow::Owned(harmless(text)),
        false => Cow::Borrowed(text),
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Success,
        Err(_) => Exit::Failed,
    }
}

/// The lines and cells of `text` without control characters.
fn harmless(text: &str) -> String {
    let cells = |line: &str| {
        let cells: Vec<_> = line.split('\t').map(visible).collect();
        cells.join("\t")
    };
    let lines: Vec<String> = text.split('\n').map(cells).collect();
    lines.join("\n")
}

/// Parses every `--filter`; `allowed` are the names that the command knows.
pub(super) fn filters(
    texts: &[String],
    allowed: &'static str,
    now: Timestamp,
) -> Result<Vec<Filter>, Exit> {
    texts
        .iter()
        .map(|text| Filter::parse(text, allowed, now))
        .collect::<Result<_, _>>()
        .map_err(|error| usage(&error.to_string()))
}

pub(super) fn usage(message: &str) -> Exit {
    print_error(message);
    Exit::Usage
}

/// Asks before something is removed. Without a terminal there is nobody to ask, so `--force` is needed.
pub(super) fn confirm(force: bool, warning: &str) -> Result<bool, Exit> {
    use std::io::BufRead as _;
    if force {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        let warning = warning.trim_end().replace("\n  - ", " ");
        return Err(usage(&format!(
            "{warning}: there is no terminal to ask on; confirm it with -f"
        )));
    }
    // A list ends with a line of its own.
    let end = if warning.ends_with('\n') { "" } else { "." };
    let question = format!("WARNING! {warning}{end}\nAre you sure you want to continue? [y/N] ");
    if print(&question) != Exit::Success {
        return Err(Exit::Failed);
    }
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}
