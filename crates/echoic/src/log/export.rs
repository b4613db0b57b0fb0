//! Exports the matching exchanges to a file.

use std::{
    io::{self, Write},
    path::Path,
};

use echoic_core::export::{Export, ExportFormat};
use echoic_recorder::wall_clock_now;
use tempfile::Builder;

use super::{Limits, Log, Stop};
use crate::{
    exit::{CliError, Exit},
    term,
};

impl Log {
    /// Writes the matches to the file at `path`, oldest first. The file is complete, or it is as it was before.
    pub(super) fn export(&self, path: &Path, limits: &Limits) -> Result<Exit, Stop> {
        let name = term::sanitize(path.display());
        let format = ExportFormat::of_path(path).map_err(|why| {
            CliError::usage(format!(
                "invalid --export {name}: {why} at the end of the name"
            ))
        })?;
        self.check_unordered("--export")?;
        let cannot = |why: io::Error| CliError::system(format!("cannot write {name}: {why}"));
        if path.exists() && !path.is_file() {
            let why = "it is not a regular file";
            return Err(CliError::system(format!("cannot write {name}: {why}")).into());
        }
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        // Only its owner can read it, as the record itself.
        let draft = Builder::new()
            .prefix(".echoic-")
            .tempfile_in(folder.unwrap_or_else(|| Path::new(".")));
        let mut draft = draft.map_err(cannot)?;
        let after = match limits.listed {
            u64::MAX => None,
            limit => self.before_the_last(limit)?,
        };
        let now = wall_clock_now();
        let mut export = Export::new(format, self.filter.clone(), limits.listed, now).after(after);
        loop {
            let next = export.next(&*self.store);
            let Some(part) = self.runtime.block_on(next).map_err(CliError::from)? else {
                break;
            };
            draft.write_all(&part).map_err(cannot)?;
        }
        draft.persist(path).map_err(|why| cannot(why.error))?;
        self.gaps(None)?;
        let exported = export.exported();
        let many = if exported == 1 { "" } else { "s" };
        term::note(&format!("{exported} exchange{many} exported to {name}"));
        Ok(Exit::Done)
    }
}
