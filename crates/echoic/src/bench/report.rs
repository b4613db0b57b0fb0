//! The HTML report of `echoic bench`: one self-contained file without scripts.

mod charts;
mod html;
mod tables;

use std::time::SystemTime;

use echoic_client::bench::{Limit, Load, Measured, Purpose, percentile};
use echoic_plot::units;
use jiff::{Timestamp, tz::TimeZone};

pub(super) use self::charts::charts;
use self::html::Html;
use super::host::Environment;

/// A report to be rendered.
pub(super) struct HtmlReport<'a> {
    pub(super) measured: &'a Measured,
    pub(super) environment: &'a Environment,
}

impl HtmlReport<'_> {
    /// Renders the page.
    pub(super) fn html(&self) -> String {
        let mut html = Html::default();
        self.head(&mut html);
        self.summary(&mut html);
        self.body(&mut html);
        html.element(
            "footer",
            "Made by echoic bench. This file is self-contained: it loads nothing and has no scripts.",
        );
        html.markup("</main></body></html>\n");
        html.finish()
    }

    fn head(&self, html: &mut Html) {
        html.markup(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <meta name=\"color-scheme\" content=\"light dark\"/>\n",
        );
        html.element(
            "title",
            format!("echoic bench {}", self.measured.plan.endpoint),
        );
        html.markup("<style>\n")
            .markup(include_str!("report/style.css"))
            .chart_style();
        html.markup("</style>\n</head>\n<body>\n<main>\n");
    }

    /// Writes the headline, the verdict and the key figures.
    fn summary(&self, html: &mut Html) {
        let Measured { plan, figures, .. } = self.measured;
        html.markup("<header>\n");
        html.element(
            "p.kicker",
            format!("echoic bench · {}", when(figures.opened)),
        );
        html.element("h1", &plan.endpoint);
        html.element("p.load", load(self.measured));
        self.verdict(html);
        html.markup("<dl class=\"cards\">\n");
        if let Some(search) = &self.measured.search {
            let found = search
                .found
                .map_or_else(|| "none".to_owned(), |found| units::count(found.rate));
            let is_unconfirmed = search.found.is_some_and(|found| !found.is_confirmed);
            let unconfirmed = if is_unconfirmed {
                ", not confirmed"
            } else {
                ""
            };
            let within = format!(
                "per second, ±{}{unconfirmed}",
                units::percent(search.within)
            );
            card(html, "highest rate", &found, &within);
        }
        let asked = figures.rate.map_or_else(
            || "closed loop".to_owned(),
            |rate| format!("of {} asked", units::count(rate)),
        );
        card(
            html,
            "answered per second",
            &units::count(figures.done_per_s()),
            &asked,
        );
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            let at = |of| percentile(of, share).map(|latency| latency.as_nanos() as f64);
            let sent = format!("{} from the send time", tables::time(at(&figures.service)));
            card(html, name, &tables::time(at(&figures.due)), &sent);
        }
        let max = (!figures.due.is_empty()).then(|| figures.due.max() as f64);
        card(html, "slowest", &tables::time(max), "from the due time");
        let failed = figures.wrong + figures.lost + figures.late + figures.unsent;
        let of = format!("of {} asked", units::whole(figures.asked));
        card(html, "failed", &units::whole(failed), &of);
        html.markup("</dl>\n</header>\n");
    }

    /// Writes what was the limit, and which terms of --slo and --assert were met.
    fn verdict(&self, html: &mut Html) {
        let Measured {
            verdict,
            slo,
            asserted,
            ..
        } = self.measured;
        html.markup(match verdict.limit {
            Limit::None => "<div class=\"verdict good\">",
            Limit::Generator => "<div class=\"verdict warn\">",
            // A search raises the rate until it hits a limit; reaching one is a success.
            _ if self
                .measured
                .search
                .as_ref()
                .is_some_and(|search| search.found.is_some()) =>
            {
                "<div class=\"verdict good\">"
            }
            Limit::Server | Limit::Network | Limit::Slo => "<div class=\"verdict bad\">",
        });
        html.element("b", headline(verdict.limit))
            .text(&verdict.why);
        html.markup("</div>\n");
        for (name, judged) in [("SLO", slo), ("asserted", asserted)] {
            for judged in judged {
                html.markup(if judged.met {
                    "<div class=\"verdict good\">"
                } else {
                    "<div class=\"verdict bad\">"
                });
                let mark = if judged.met { "✓ met" } else { "✗ not met" };
                let value = judged.value.as_deref().map_or_else(
                    || "nothing was measured".to_owned(),
                    |value| format!("measured {value}"),
                );
                html.element("b", format!("{mark}: {}", judged.term));
                html.text(format!("{name}; {value}")).markup("</div>\n");
            }
        }
        if self.measured.is_cut {
            html.element(
                "p.note",
                "A signal stopped the run before its end; the figures cover the time until then.",
            );
        }
    }

    fn body(&self, html: &mut Html) {
        let Measured { figures, tries, .. } = self.measured;
        let charts = charts(self.measured);
        let (of_all, of_one): (Vec<_>, Vec<_>) =
            charts.iter().partition(|chart| chart.name() == "steps");
        let one = match tries.last().map(|last| last.purpose) {
            None => "Over time, and distribution",
            Some(Purpose::Step) => "The last step: over time, and distribution",
            Some(_) => "The last run: over time, and distribution",
        };
        if let Some(comparison) = &self.measured.comparison {
            html.element("h2", format!("Compared with {}", comparison.with));
            tables::comparison(html, comparison);
        }
        if !tries.is_empty() {
            html.element("h2", "Each run");
            for chart in of_all {
                html.figure(chart);
            }
            tables::tries(html, self.measured);
        }
        html.element("h2", one);
        for chart in of_one {
            html.figure(chart);
        }
        html.element("h2", "Figures");
        tables::latency(html, figures);
        tables::requests(html, figures);
        if figures.outcomes.is_some() {
            html.element("h2", "Datagrams");
            tables::outcomes(html, figures);
        }
        html.element("h2", "Failures");
        tables::failures(html, figures);
        tables::samples(html, &figures.samples);
        html.element("h2", "Generator");
        tables::generator(html, figures);
        html.element("h2", "Environment");
        let when = when(figures.opened);
        tables::environment(html, &self.environment.host, self.measured.plan.seed, &when);
        html.element("h2", "Command line");
        html.element("pre", &self.environment.command);
    }
}

/// Returns the headline of a verdict.
fn headline(limit: Limit) -> &'static str {
    match limit {
        Limit::None => "Healthy: no limit was reached",
        Limit::Server => "The server was the limit",
        Limit::Network => "The network was the limit",
        Limit::Slo => "The SLO was not met",
        Limit::Generator => {
            "The load generator was the limit: the figures do not describe the server"
        }
    }
}

fn card(html: &mut Html, name: &str, figure: &str, note: &str) {
    html.markup("<div>").element("dt", name);
    html.element("dd.figure", figure).element("dd.note", note);
    html.markup("</div>\n");
}

/// `8 connections · open loop, 20k asked per second · framing line · 10 s`
fn load(measured: &Measured) -> String {
    let Measured {
        plan, run, figures, ..
    } = measured;
    let how = match (&run.load, figures.rate) {
        (Load::Closed, _) => "closed loop".to_owned(),
        (Load::Open { .. }, Some(rate)) => {
            format!("open loop, {} asked per second", units::count(rate))
        }
        (Load::Open { .. }, None) => "open loop".to_owned(),
        (Load::Recorded(_), _) => "as recorded".to_owned(),
    };
    let mut parts = vec![plural(plan.connections.into(), "connection")];
    if plan.pipeline > 1 {
        parts.push(format!("up to {} in flight on each", plan.pipeline));
    }
    parts.push(how);
    if figures.outcomes.is_none() {
        parts.push(format!("framing {}", plan.frames));
    }
    parts.push(format!("expecting {}", plan.expect));
    parts.push(units::time(figures.seconds * 1e6));
    parts.join(" · ")
}

fn plural(count: u64, noun: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{} {noun}{end}", units::whole(count))
}

/// Formats a time in UTC, since the report may be read in another time zone: `2026-11-26 04:12:07 UTC`.
fn when(at: SystemTime) -> String {
    Timestamp::try_from(at).map_or_else(
        |_| "at an unknown time".to_owned(),
        |at| {
            at.to_zoned(TimeZone::UTC)
                .strftime("%Y-%m-%d %H:%M:%S UTC")
                .to_string()
        },
    )
}
