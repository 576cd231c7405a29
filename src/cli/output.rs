//! `--output`: docker's `type=…,key=value` lists.

use std::path::PathBuf;

use crate::build::request::{Destination, Encoding, ImageOutput, Output, OutputForm};
use crate::layer::Compression;
use crate::oci::{Reference, parse_reference};

/// Parses one `--output` value. `PATH` alone is a local directory and `-` a tar archive on standard
/// output, as docker has it.
pub(crate) fn parse(text: &str) -> Result<Output, String> {
    let mut fields = Fields::default();
    if text == "-" {
        fields.kind = Some("tar".to_owned());
        fields.destination = Some("-".to_owned());
    } else if text.contains('=') {
        for field in text.split(',') {
            fields.set(field)?;
        }
    } else {
        fields.kind = Some("local".to_owned());
        fields.destination = Some(text.to_owned());
    }
    fields.into_output()
}

#[derive(Default)]
struct Fields {
    kind: Option<String>,
    destination: Option<String>,
    tar: Option<bool>,
    compression: Option<Compression>,
    level: Option<u32>,
    rewrite_timestamp: Option<bool>,
    names: Vec<Reference>,
    push: Option<bool>,
    by_digest: Option<bool>,
    oci: Option<bool>,
}

impl Fields {
    fn set(&mut self, field: &str) -> Result<(), String> {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("{field:?} is not KEY=VALUE (as in type=oci,dest=image.tar)"))?;
        match key.trim().to_ascii_lowercase().as_str() {
            "type" => self.kind = Some(value.to_owned()),
            "dest" => self.destination = Some(value.to_owned()),
            "tar" => self.tar = Some(boolean(key, value)?),
            "compression" => {
                self.compression = Some(match value {
                    "gzip" => Compression::Gzip,
                    "zstd" => Compression::Zstd,
                    "uncompressed" => Compression::Uncompressed,
                    _ => {
                        return Err(format!(
                            "compression {value:?} is not known (gzip, zstd, uncompressed)"
                        ));
                    }
                });
            }
            "compression-level" => {
                let level = value
                    .parse()
                    .map_err(|_| format!("compression-level {value:?} is not a number"))?;
                self.level = Some(level);
            }
            "name" => self.names.push(name(value)?),
            "push" => self.push = Some(boolean(key, value)?),
            "push-by-digest" => self.by_digest = Some(boolean(key, value)?),
            "oci-mediatypes" => self.oci = Some(boolean(key, value)?),
            "rewrite-timestamp" => self.rewrite_timestamp = Some(boolean(key, value)?),
            _ => return Err(format!("the output option {key:?} is not known")),
        }
        Ok(())
    }

    fn into_output(self) -> Result<Output, String> {
        let kind = self
            .kind
            .ok_or("the output has no type (oci, docker, tar, local, cacheonly)")?;
        let destination = |what: &str| {
            self.destination
                .clone()
                .filter(|dest| !dest.is_empty())
                .ok_or_else(|| format!("type={kind} needs dest={what}"))
        };
        let archive = || {
            destination("FILE or dest=-").map(|dest| {
                if dest == "-" {
                    Destination::Stdout
                } else {
                    Destination::File(dest.into())
                }
            })
        };
        let of_registry = self.push.is_some() || self.by_digest.is_some() || self.oci.is_some();
        if !matches!(kind.as_str(), "image" | "registry") && (of_registry || !self.names.is_empty())
        {
            return Err(format!(
                "name, push, push-by-digest and oci-mediatypes go with type=image, not with \
                 type={kind}; -t gives the image a name"
            ));
        }
        let as_directory = self.tar == Some(false);
        if as_directory && kind != "oci" {
            return Err(format!(
                "tar=false goes with type=oci, not with type={kind}"
            ));
        }
        let form = match kind.as_str() {
            "oci" if as_directory => match destination("DIR")?.as_str() {
                "-" => return Err("a layout directory cannot go to standard output".to_owned()),
                path => OutputForm::OciLayout(PathBuf::from(path)),
            },
            "oci" => OutputForm::OciArchive(archive()?),
            "docker" => OutputForm::DockerArchive(archive()?),
            "tar" => OutputForm::Tar(archive()?),
            "local" => match destination("DIR")?.as_str() {
                "-" => return Err("type=local needs a directory; type=tar can be a stream".into()),
                path => OutputForm::Local(PathBuf::from(path)),
            },
            "cacheonly" if self.destination.is_some() => {
                return Err("type=cacheonly writes nothing and takes no dest".to_owned());
            }
            "cacheonly" => OutputForm::CacheOnly,
            "image" | "registry" if self.destination.is_some() => {
                return Err(format!("type={kind} has a name and no dest"));
            }
            "image" | "registry" => {
                let push = self.push.unwrap_or(kind == "registry");
                let by_digest = self.by_digest.unwrap_or(false);
                if by_digest && !push {
                    return Err("push-by-digest=true needs push=true".to_owned());
                }
                OutputForm::Image(ImageOutput {
                    names: self.names,
                    push,
                    by_digest,
                    oci: self.oci.unwrap_or(true),
                })
            }
            _ => {
                return Err(format!(
                    "the output type {kind:?} is not known (oci, docker, tar, local, cacheonly)"
                ));
            }
        };
        let of_image = matches!(
            form,
            OutputForm::OciArchive(_)
                | OutputForm::OciLayout(_)
                | OutputForm::DockerArchive(_)
                | OutputForm::Image(_)
        );
        if !of_image && (self.compression.is_some() || self.level.is_some()) {
            return Err(format!("type={kind} has no layers to compress"));
        }
        let compression = self.compression.unwrap_or(Compression::Gzip);
        let highest = match compression {
            Compression::Uncompressed => None,
            Compression::Gzip => Some(9),
            Compression::Zstd => Some(22),
        };
        match (self.level, highest) {
            (Some(_), None) => return Err("uncompressed layers have no compression-level".into()),
            (Some(level), Some(highest)) if level > highest => {
                return Err(format!("compression-level {level} is above {highest}"));
            }
            _ => {}
        }
        Ok(Output {
            form,
            encoding: Encoding {
                compression,
                level: self.level,
            },
            rewrite_timestamp: self.rewrite_timestamp.unwrap_or(false),
        })
    }
}

/// The name of an image that is pushed.
fn name(text: &str) -> Result<Reference, String> {
    let name = parse_reference(text).map_err(|error| format!("name={text}: {error}"))?;
    if name.digest().is_some() {
        return Err(format!("name={text}: a digest cannot be given to an image"));
    }
    Ok(name)
}

fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{key}={value} is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_spellings_mean_what_they_mean_there() {
        let form = |text: &str| parse(text).unwrap().form;
        let file = |path: &str| Destination::File(path.into());
        assert_eq!(
            form("type=oci,dest=a.tar"),
            OutputForm::OciArchive(file("a.tar"))
        );
        assert_eq!(
            form("type=oci,dest=-"),
            OutputForm::OciArchive(Destination::Stdout)
        );
        assert_eq!(
            form("type=oci,tar=false,dest=d"),
            OutputForm::OciLayout("d".into())
        );
        assert_eq!(
            form("type=docker,dest=a"),
            OutputForm::DockerArchive(file("a"))
        );
        assert_eq!(form("out"), OutputForm::Local("out".into()));
        assert_eq!(form("-"), OutputForm::Tar(Destination::Stdout));
        assert_eq!(form("type=cacheonly"), OutputForm::CacheOnly);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for text in [
            "dest=x",
            "type=oci",
            "type=what,dest=x",
            "type=oci,dest=x,colour=red",
            "type=oci,dest=x,compression=lzw",
            "type=oci,dest=x,compression=gzip,compression-level=10",
            "type=oci,dest=x,compression=uncompressed,compression-level=1",
            "type=tar,dest=x,compression=zstd",
            "type=docker,tar=false,dest=x",
            "type=local,dest=-",
            "type=cacheonly,dest=x",
            "type=image,push=true,dest=x",
            "type=image,push-by-digest=true",
            "type=oci,dest=x,push=true",
            "type=registry,name=A",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
