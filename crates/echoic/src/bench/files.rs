//! The files that a run leaves besides what it prints.

use std::path::PathBuf;

use clap::Args;
use echoic_client::bench::{Measured, hgrm};

use super::{
    file::{Sheet, folder},
    host::Made,
    report::{Page, charts},
};
use crate::exit::CliError;

/// Which files are wanted.
#[derive(Debug, Args)]
pub(super) struct FileArgs {
    /// Write a page of all figures and charts: one file, to be read without anything else
    #[arg(long, value_name = "OUT.html", help_heading = "Files")]
    report: Option<PathBuf>,

    /// Write each chart as an SVG file into this folder
    #[arg(long, value_name = "FOLDER", help_heading = "Files")]
    svg: Option<PathBuf>,

    /// Write the percentiles from the due moment in the form that HdrHistogram's plotter, wrk2 and vegeta share
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    hgrm: Option<PathBuf>,
}

/// Files that can be written, as was made sure.
#[derive(Debug)]
pub(super) struct Files {
    report: Option<Sheet>,
    svg: Option<PathBuf>,
    hgrm: Option<Sheet>,
}

impl FileArgs {
    /// Makes sure of all before anything is measured.
    pub(super) fn open(&self) -> Result<Files, CliError> {
        let sheet = |path: &Option<PathBuf>| path.as_deref().map(Sheet::open).transpose();
        if let Some(path) = &self.svg {
            folder(path)?;
        }
        Ok(Files {
            report: sheet(&self.report)?,
            svg: self.svg.clone(),
            hgrm: sheet(&self.hgrm)?,
        })
    }
}

impl Files {
    /// Writes all, and says what it wrote.
    pub(super) fn write(self, measured: &Measured, made: &Made) -> Result<Vec<PathBuf>, CliError> {
        let figures = &measured.figures;
        let mut written = Vec::new();
        if let Some(sheet) = self.report {
            let page = Page { measured, made };
            written.push(sheet.write(page.html().as_bytes())?);
        }
        if let Some(folder) = self.svg {
            for chart in charts(measured) {
                let path = folder.join(chart.name()).with_extension("svg");
                Sheet::open(&path)?.write(chart.to_string().as_bytes())?;
            }
            written.push(folder);
        }
        if let Some(sheet) = self.hgrm {
            written.push(sheet.write(hgrm(&figures.due).as_bytes())?);
        }
        Ok(written)
    }
}
