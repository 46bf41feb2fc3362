//! The kernel command line is split and understood as its grammar says.

#[path = "../../boot/start/cmdline.rs"]
#[allow(dead_code, reason = "the image uses what is not tested here")]
mod cmdline;

use std::time::Duration;

use cmdline::{CmdlineError, parse, words};
use proptest::prelude::*;
use xen9p::hypercall::DomId;
use xen9p::transport::serving::Target;

#[test]
fn options_come_first_and_the_rest_is_untouched() {
    let (options, rest) = parse(
        "log=debug,p9=trace share='my data' msize=512K rings=4 order=7 timeout=90 cat 'a b'; ls",
    )
    .unwrap();
    assert_eq!(options.log.as_deref(), Some("debug,p9=trace"));
    assert_eq!(options.share.as_deref(), Some("my data"));
    assert_eq!(options.msize, Some(512 << 10));
    assert_eq!(options.rings, Some(4));
    assert_eq!(options.order, Some(7));
    assert_eq!(options.timeout, Some(Duration::from_secs(90)));
    assert_eq!(rest, "cat 'a b'; ls");
}

#[test]
#[cfg(all(feature = "recovery", feature = "trace", feature = "vchan"))]
fn a_trace_goes_to_a_file_on_a_share() {
    for (value, file) in [
        ("pcap", "/xen9p.pcap"),
        ("pcap:/a/b.pcap", "/a/b.pcap"),
        ("pcap:logs:/b", "logs:/b"),
    ] {
        let (options, _) = parse(&format!("trace={value} ls")).unwrap();
        assert_eq!(options.trace.unwrap().to_string(), file);
    }
    for value in [
        "", "text", "pcap:", "pcap:x", "pcap:/", "pcap::/x", "pcapx", "pcap:a/b",
    ] {
        let message = parse(&format!("trace={value}")).unwrap_err().to_string();
        assert!(message.contains("expected pcap, pcap:/PATH"), "{message}");
    }
}

#[test]
fn no_options_no_app() {
    for line in ["", "  ", " ; \n", "--", "share=x"] {
        assert_eq!(parse(line).unwrap().1, "", "{line:?}");
    }
}

#[test]
fn options_end_at_the_first_other_word_or_at_two_dashes() {
    assert_eq!(parse("echo share=x").unwrap().1, "echo share=x");
    assert_eq!(parse("order=2 -- a=b c").unwrap().1, "a=b c");
    // Not a key: the word belongs to the app.
    assert_eq!(parse("/a=b c").unwrap().1, "/a=b c");
    assert_eq!(parse("=b").unwrap().1, "=b");
}

#[test]
#[cfg(all(feature = "recovery", feature = "trace", feature = "vchan"))]
fn bad_options_are_named() {
    let message = |line: &str| parse(line).unwrap_err().to_string();
    assert!(message("sahre=x ls").starts_with("unknown option 'sahre='"));
    assert!(message("msize=12Q").starts_with("msize=12Q: expected a number of bytes"));
    assert!(message("msize=4096M").starts_with("msize="));
    assert!(message("order=0").starts_with("order=0: expected"));
    assert!(message("order=10").starts_with("order=10: expected"));
    assert!(message("order=1").starts_with("order=1: expected"));
    assert!(message("rings=0").starts_with("rings=0: expected"));
    assert!(message("timeout=0").starts_with("timeout=0: expected"));
    for recovery in [
        "retry",
        "reattach:0",
        "reattach:",
        "reattach:soon",
        "fail:1",
    ] {
        let found = message(&format!("recovery={recovery}"));
        assert!(found.contains("expected"), "{found}");
    }
    assert!(message("share=").starts_with("share=: expected"));
    assert_eq!(parse("share='x"), Err(CmdlineError::OpenQuote('\'')));
}

#[test]
fn a_name_space_is_described() {
    let (options, rest) =
        parse("mount=share:/,data:/mnt/data,ro=logs:/var/log bind=before:/overlay:/etc mount=#dev:/dev ls")
            .unwrap();
    assert_eq!(rest, "ls");
    let mounts = options.layout.mounts().iter();
    let mounts: Vec<_> = mounts
        .map(|mount| (mount.source.as_str(), mount.at.as_str(), mount.read_only))
        .collect();
    assert_eq!(
        mounts,
        [
            ("share", "/", false),
            ("data", "/mnt/data", false),
            ("logs", "/var/log", true),
            ("#dev", "/dev", false)
        ]
    );
    assert_eq!(options.layout.binds().len(), 1);
    assert!(parse("share=x mount=y:/mnt").is_ok());

    let message = |line: &str| parse(line).unwrap_err().to_string();
    assert!(message("mount=a:/,b ls").starts_with("mount=a:/,b: entry 2 of the mount option"));
    assert!(message("mount=a:/x,b:/x").contains("entry 2"));
    assert!(message("bind=beside:/a:/b").starts_with("bind=beside:/a:/b: entry 1"));
    assert!(message("bind=before:/a").starts_with("bind=before:/a: entry 1"));
    assert_eq!(parse("mount=a:/ share=b"), Err(CmdlineError::TwoRoots));
}

#[test]
fn words_are_quoted_as_in_a_shell() {
    let cases: [(&str, &[&str]); 9] = [
        ("cat  /a\t/b ", &["cat", "/a", "/b"]),
        ("'a b' \"c d\" e\\ f", &["a b", "c d", "e f"]),
        ("a'b'\"c\"d", &["abcd"]),
        ("'' \"\"", &["", ""]),
        (r#"'it\n' "\"\\\n" \"#, &["it\\n", "\"\\\\n", "\\"]),
        ("'\"' \"'\"", &["\"", "'"]),
        ("grüße/😀", &["grüße/😀"]),
        ("';' \";\" \\;", &[";", ";", ";"]),
        ("'two\nlines'", &["two\nlines"]),
    ];
    for (text, expected) in cases {
        assert_eq!(words(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn semicolons_and_line_ends_separate_words() {
    let split = words("ls;cat 'a;b';;\n echo c\\;d ;\r\n rm x").unwrap();
    assert_eq!(split, ["ls", "cat", "a;b", "echo", "c;d", "rm", "x"]);
    assert_eq!(words("ls; cat \"x"), Err(CmdlineError::OpenQuote('"')));
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

proptest! {
    #[test]
    fn quoting_brings_any_words_through(
        list in prop::collection::vec(any::<String>(), 0..6)
    ) {
        let line: Vec<String> = list.iter().map(|word| quoted(word)).collect();
        prop_assert_eq!(words(&line.join(" ")).unwrap(), list);
    }

    #[test]
    fn any_line_is_parsed_or_refused(line in any::<String>()) {
        if let Ok((_, rest)) = parse(&line) {
            prop_assert!(line.ends_with(rest));
            let _ = words(rest);
        }
    }
}

#[test]
#[cfg(all(feature = "recovery", feature = "trace", feature = "vchan"))]
fn exports_are_described() {
    let (options, rest) =
        parse("export=/srv:vchan!7!logs,ro=#mem:vchan!0!/local/x export=data:9pfs,ro=/:9pfs serve")
            .unwrap();
    assert_eq!(rest, "serve");
    let exports: Vec<_> = options
        .exports
        .iter()
        .map(|export| {
            (
                export.source.as_str(),
                export.target.clone(),
                export.read_only,
            )
        })
        .collect();
    assert_eq!(
        exports,
        [
            ("/srv", Target::Vchan(DomId(7), "logs".into()), false),
            ("#mem", Target::Vchan(DomId(0), "/local/x".into()), true),
            ("data", Target::Devices, false),
            ("/", Target::Devices, true)
        ]
    );
    for wrong in [
        "",
        "/srv",
        "/srv:7!x",
        ":vchan!7!x",
        ":9pfs",
        "/srv:9pfs!7",
        "/a:vchan!7!x,",
    ] {
        let message = parse(&format!("export={wrong}")).unwrap_err().to_string();
        assert!(
            message.contains("expected SOURCE:9pfs or SOURCE:vchan!DOMID!NAME"),
            "{message}"
        );
    }
    for wrong in ["/srv:vchan!7", "/srv:vchan!7!", "/srv:vchan!x!y"] {
        let message = parse(&format!("export={wrong}")).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("export={wrong}: malformed address: ")),
            "{message}"
        );
    }
    #[cfg(feature = "argo")]
    {
        let (options, _) = parse("export=/srv:vchan!7!a,ro=#mem:argo!8!564").unwrap();
        let [_, export] = &options.exports[..] else {
            panic!("two exports")
        };
        assert_eq!(export.target, Target::Argo(DomId(8), 564));
        assert!(export.read_only && export.source == "#mem");
        assert!(parse("export=:argo!8!564").is_err());
    }
    #[cfg(not(feature = "argo"))]
    {
        let message = parse("export=#mem:argo!8!564").unwrap_err().to_string();
        assert!(message.contains("without the feature 'argo'"), "{message}");
    }
    // A vchan's name may be a path: it ends at the path in the name space.
    let (options, _) = parse("mount=vchan!0!/local/x/9p:/far").unwrap();
    let mount = &options.layout.mounts()[0];
    assert_eq!(
        (mount.source.as_str(), mount.at.as_str()),
        ("vchan!0!/local/x/9p", "/far")
    );
}

#[test]
fn a_cache_is_asked_for() {
    let cache = |value: &str| parse(&format!("cache={value} ls")).map(|(options, _)| options.cache);
    assert_eq!(cache("off"), Ok(None));
    if !cfg!(feature = "cache") {
        let left_out = CmdlineError::LeftOut("cache", "cache");
        assert_eq!(cache("open"), Err(left_out));
        return;
    }
    assert_eq!(cache("open"), Ok(Some(0)));
    assert_eq!(cache("open:3"), Ok(Some(3 << 20)));
    for value in [
        "",
        "loose",
        "off:1",
        "open:",
        "open:0",
        "open:x",
        "open:1048577",
    ] {
        let message = cache(value).unwrap_err().to_string();
        assert!(
            message.contains("expected off, open or open:MIB"),
            "{message}"
        );
    }
}
