//! How tests went, for people and as JUnit XML for CI systems.

use std::fmt::Write;
use std::time::Duration;

/// How one test went.
pub struct Outcome {
    /// Name, with the kind of domain where it was told.
    pub name: String,
    /// What it took.
    pub took: Duration,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

impl Outcome {
    /// What a person reads.
    pub fn text(&self) -> String {
        let seconds = self.took.as_secs_f64();
        match &self.failure {
            None => format!("ok     {} ({seconds:.1} s)", self.name),
            Some(failure) => format!("FAILED {} ({seconds:.1} s): {failure}", self.name),
        }
    }
}

/// The XML that CI systems read.
pub fn junit(suite: &str, outcomes: &[Outcome]) -> String {
    let failures = outcomes.iter().filter(|outcome| outcome.failure.is_some());
    let seconds: f64 = outcomes
        .iter()
        .map(|outcome| outcome.took.as_secs_f64())
        .sum();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" time=\"{seconds:.3}\">\n",
        escape(suite),
        outcomes.len(),
        failures.count(),
    );
    for outcome in outcomes {
        // Writing to a string does not fail.
        let _ = write!(
            xml,
            "<testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
            escape(suite),
            escape(&outcome.name),
            outcome.took.as_secs_f64()
        );
        xml += &match &outcome.failure {
            None => "/>\n".to_owned(),
            Some(failure) => format!(
                "><failure message=\"{}\">{}</failure></testcase>\n",
                escape(failure.lines().next().unwrap_or_default()),
                escape(failure)
            ),
        };
    }
    xml + "</testsuite>\n</testsuites>\n"
}

/// Text as XML has it. Consoles print characters that XML has no word for.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            '"' => out += "&quot;",
            '\n' | '\t' => out.push(c),
            '\r' => {}
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_xml_whatever_a_console_prints() {
        let outcome = |name: &str, failure: Option<&str>| Outcome {
            name: name.to_owned(),
            took: Duration::from_millis(1500),
            failure: failure.map(str::to_owned),
        };
        let outcomes = [
            outcome("a<b>", None),
            outcome("c", Some("\"x\" & y\r\n\u{1b}[0m]]>")),
        ];
        assert_eq!(
            junit("s", &outcomes),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n\
             <testsuite name=\"s\" tests=\"2\" failures=\"1\" time=\"3.000\">\n\
             <testcase classname=\"s\" name=\"a&lt;b&gt;\" time=\"1.500\"/>\n\
             <testcase classname=\"s\" name=\"c\" time=\"1.500\"><failure message=\"&quot;x&quot; &amp; y\">\
             &quot;x&quot; &amp; y\n\u{fffd}[0m]]&gt;</failure></testcase>\n</testsuite>\n</testsuites>\n"
        );
    }
}
