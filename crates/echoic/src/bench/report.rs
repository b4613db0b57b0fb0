//! A command's result as a page: one file that needs nothing else, can be read without running anything, and can be
//! passed on.

mod charts;
mod html;
mod tables;

use std::time::SystemTime;

use echoic_client::bench::{Limit, Load, Measured, Purpose, percentile};
use echoic_plot::units;
use jiff::{Timestamp, tz::TimeZone};

pub(super) use self::charts::charts;
use self::html::Html;
use super::host::Made;

/// What the page is made of.
pub(super) struct Page<'a> {
    pub(super) measured: &'a Measured,
    pub(super) made: &'a Made,
}

impl Page<'_> {
    /// The page, whole.
    pub(super) fn html(&self) -> String {
        let mut html = Html::default();
        self.head(&mut html);
        self.summary(&mut html);
        self.body(&mut html);
        html.element(
            "footer",
            "Made by echoic bench. The file needs nothing else, and fetches and runs nothing.",
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

    /// The headline: what a reader in a hurry takes away.
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
            let found = search.found.map_or_else(|| "none".to_owned(), units::count);
            let within = format!("per second, ±{}", units::percent(search.within));
            card(html, "highest rate", &found, &within);
        }
        let asked = figures.rate.map_or_else(
            || "as many as came back".to_owned(),
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
            let sent = format!("{} from sending", tables::time(at(&figures.service)));
            card(html, name, &tables::time(at(&figures.due)), &sent);
        }
        let max = (!figures.due.is_empty()).then(|| figures.due.max() as f64);
        card(html, "slowest", &tables::time(max), "from being due");
        let failed = figures.wrong + figures.lost + figures.late + figures.unsent;
        let of = format!("of {} asked", units::whole(figures.asked));
        card(html, "failed", &units::whole(failed), &of);
        html.markup("</dl>\n</header>\n");
    }

    /// Who was the limit, and whether what was promised was kept.
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
            // A search goes up until something gives way: that is no failure.
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
        html.element("b", words(verdict.limit)).text(&verdict.why);
        html.markup("</div>\n");
        for (name, judged) in [("promised", slo), ("asserted", asserted)] {
            for judged in judged {
                html.markup(if judged.met {
                    "<div class=\"verdict good\">"
                } else {
                    "<div class=\"verdict bad\">"
                });
                let mark = if judged.met {
                    "✓ kept"
                } else {
                    "✗ not kept"
                };
                let value = judged.value.as_deref().map_or_else(
                    || "nothing was measured".to_owned(),
                    |value| format!("measured {value}"),
                );
                html.element("b", format!("{mark}: {}", judged.term));
                html.text(format!("{name}; {value}")).markup("</div>\n");
            }
        }
        if self.measured.is_cut {
            html.element("p.note", "Stopped by a signal before its end: the figures are of what had been done by then.");
        }
    }

    fn body(&self, html: &mut Html) {
        let Measured { figures, tries, .. } = self.measured;
        let charts = charts(self.measured);
        let (of_all, of_one): (Vec<_>, Vec<_>) =
            charts.iter().partition(|chart| chart.name() == "steps");
        let one = match tries.last().map(|last| last.purpose) {
            None => "Over time, and how it is spread",
            Some(Purpose::Step) => "The last step: over time, and how it is spread",
            Some(_) => "The last run: over time, and how it is spread",
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
        html.element("h2", "What went wrong");
        tables::failures(html, figures);
        tables::samples(html, &figures.samples);
        html.element("h2", "Generator");
        tables::generator(html, figures);
        html.element("h2", "Environment");
        let when = when(figures.opened);
        tables::environment(html, &self.made.host, self.measured.plan.seed, &when);
        html.element("h2", "To repeat it");
        html.element("pre", &self.made.command);
    }
}

/// Who was the limit, as a headline.
fn words(limit: Limit) -> &'static str {
    match limit {
        Limit::None => "Healthy: nobody was the limit",
        Limit::Server => "The server was the limit",
        Limit::Network => "The way there was the limit",
        Limit::Slo => "What was promised was not kept",
        Limit::Generator => "This generator was the limit: nothing is learnt of the server",
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
        parts.push(format!("{} in flight on each at most", plan.pipeline));
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

/// `2026-11-26 04:12:07 UTC`: a page is read elsewhere too.
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
