//! `rbuild image`: docker's longer spellings.

use clap::Subcommand;

use super::history::HistoryArgs;
use super::images::ImagesArgs;
use super::import::ImportArgs;
use super::inspect::InspectArgs;
use super::load::LoadArgs;
use super::prune::PruneArgs;
use super::remove::RemoveArgs;
use super::save::SaveArgs;
use super::tag::TagArgs;

#[derive(Debug, Subcommand)]
pub(super) enum ImageCommand {
    /// List images
    #[command(visible_alias = "list")]
    Ls(ImagesArgs),
    /// Build an image from a Dockerfile
    Build(Box<super::build::BuildArgs>),
    /// Show how an image was made
    History(HistoryArgs),
    /// Make an image from a tar archive of a root file system
    Import(ImportArgs),
    /// Show everything that is known of images
    Inspect(InspectArgs),
    /// Put the images of an archive into the store
    Load(LoadArgs),
    /// Remove images without a name
    Prune(PruneArgs),
    /// Remove names of images, and images without one
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
    /// Write images to an archive
    Save(SaveArgs),
    /// Give an image another name
    Tag(TagArgs),
}
