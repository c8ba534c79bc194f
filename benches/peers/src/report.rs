use std::fmt::Write as _;

use serde::Serialize;

use crate::Library;
use crate::client::Sample;

/// One run, as one line of JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) library: Library,
    pub(crate) server: &'static str,
    pub(crate) names: usize,
    pub(crate) rtt_ms: u64,
    pub(crate) orders: usize,
    pub(crate) concurrency: usize,
    pub(crate) reject_nonces_percent: u8,
    pub(crate) issued: usize,
    pub(crate) wall_s: f64,
    /// Wall time from an order to its certificate.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) certificates_per_s: f64,
    pub(crate) requests_per_certificate: f64,
    pub(crate) bad_nonces_per_certificate: f64,
    pub(crate) sequential_round_trips: usize,
    pub(crate) cpu_ms_per_certificate: f64,
    pub(crate) start_rss_kib: u64,
    pub(crate) peak_rss_kib: u64,
    /// What the peak is above the start, for each order that was under way at once.
    pub(crate) rss_kib_per_concurrent_order: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) samples: Vec<Sample>,
}

pub(crate) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

pub(crate) fn table(reports: &[Report]) -> String {
    let mut text = String::from(
        "| server | names | rtt ms | conc. | rejected | library | issued | p50 ms | p99 ms | cert/s \
         | requests | round trips | CPU ms | peak KiB | KiB/order |\n\
         |---|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for report in reports {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} % | {} | {}/{} | {:.1} | {:.1} | {:.1} | {:.2} | {} | {:.2} \
             | {} | {:.1} |",
            report.server,
            report.names,
            report.rtt_ms,
            report.concurrency,
            report.reject_nonces_percent,
            report.library.name(),
            report.issued,
            report.orders,
            report.p50_ms,
            report.p99_ms,
            report.certificates_per_s,
            report.requests_per_certificate,
            report.sequential_round_trips,
            report.cpu_ms_per_certificate,
            report.peak_rss_kib,
            report.rss_kib_per_concurrent_order,
        );
    }
    for report in reports {
        if report.samples.len() < 10 {
            continue;
        }
        let _ = writeln!(
            text,
            "\n{}, {} orders side by side:\n\n| orders | s | client CPU s | RSS KiB |\n|--:|--:|--:|--:|",
            report.library.name(),
            report.concurrency,
        );
        for sample in &report.samples {
            let _ = writeln!(
                text,
                "| {} | {:.1} | {:.2} | {} |",
                sample.orders,
                sample.elapsed_s,
                sample.cpu_ms / 1_000.0,
                sample.rss_kib,
            );
        }
    }
    text
}
