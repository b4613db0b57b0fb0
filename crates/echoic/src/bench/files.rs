//! The output files of `echoic bench`: report, charts and percentiles.

use std::path::PathBuf;

use clap::Args;
use echoic_client::bench::{Measured, hgrm};

use super::{
    host::Environment,
    output_file::{OutputFile, create_folder},
    report::{HtmlReport, charts},
};
use crate::exit::CliError;

/// Options for output files.
#[derive(Debug, Args)]
pub(super) struct FileArgs {
    /// Write a self-contained HTML page with all figures and charts
    #[arg(long, value_name = "OUT.html", help_heading = "Files")]
    report: Option<PathBuf>,

    /// Write each chart as an SVG file into this folder
    #[arg(long, value_name = "FOLDER", help_heading = "Files")]
    svg: Option<PathBuf>,

    /// Write the latency percentiles in the .hgrm format of HdrHistogram, wrk2 and vegeta
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    hgrm: Option<PathBuf>,
}

/// Output files that were checked to be writable.
#[derive(Debug)]
pub(super) struct Files {
    report: Option<OutputFile>,
    svg: Option<PathBuf>,
    hgrm: Option<OutputFile>,
}

impl FileArgs {
    /// Opens all files, so that errors show before the run.
    pub(super) fn open(&self) -> Result<Files, CliError> {
        let open = |path: &Option<PathBuf>| path.as_deref().map(OutputFile::open).transpose();
        if let Some(path) = &self.svg {
            create_folder(path)?;
        }
        Ok(Files {
            report: open(&self.report)?,
            svg: self.svg.clone(),
            hgrm: open(&self.hgrm)?,
        })
    }
}

impl Files {
    /// Writes all files, and returns their paths.
    pub(super) fn write(
        self,
        measured: &Measured,
        environment: &Environment,
    ) -> Result<Vec<PathBuf>, CliError> {
        let figures = &measured.figures;
        let mut written = Vec::new();
        if let Some(file) = self.report {
            let page = HtmlReport {
                measured,
                environment,
            };
            written.push(file.write(page.html().as_bytes())?);
        }
        if let Some(folder) = self.svg {
            for chart in charts(measured) {
                let path = folder.join(chart.name()).with_extension("svg");
                OutputFile::open(&path)?.write(chart.to_string().as_bytes())?;
            }
            written.push(folder);
        }
        if let Some(file) = self.hgrm {
            written.push(file.write(hgrm(&figures.due).as_bytes())?);
        }
        Ok(written)
    }
}
