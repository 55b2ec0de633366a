//! Two processes and one store, and readers that go away.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::support::{Cli, Run, json, keepstone};

/// An import that holds the store until its input ends.
struct Holder {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Holder {
    fn new(cli: &Cli) -> Self {
        let mut child =
            cli.command(["import", "-", "--batch", "1", "--ack"]).stdin(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdin, stdout }
    }

    /// Sends a line and waits for its acknowledgement.
    fn send(&mut self, line: &str) -> String {
        writeln!(self.stdin, "{line}").unwrap();
        let mut ack = String::new();
        self.stdout.read_line(&mut ack).unwrap();
        ack
    }

    fn end(mut self) {
        drop(self.stdin);
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn a_second_writer_is_refused_and_told_who_holds_the_store() {
    let cli = Cli::new();
    let mut holder = Holder::new(&cli);
    assert!(holder.send("{\"key\":\"a\",\"body\":1}").starts_with("ack "));
    let pid = holder.child.id().to_string();
    for command in [
        &["put", "k", "1"][..],
        &["delete", "a"],
        &["link", "a", "v", "b"],
        &["tag", "x"],
        &["rollback", "0"],
    ] {
        let message = cli.fails(5, command);
        assert!(message.contains(&pid), "{message}");
    }
    let message = cli.feed_fails(5, ["import", "-"], b"{\"key\":\"b\"}\n");
    assert!(message.contains(&pid), "{message}");
    holder.end();
    cli.ok(["put", "k", "1"]);
}

#[test]
fn readers_read_beside_a_writer() {
    let cli = Cli::new();
    let mut holder = Holder::new(&cli);
    for n in 0..20 {
        assert!(holder.send(&format!("{{\"key\":\"k{n}\",\"body\":{n}}}")).starts_with("ack "));
        let run = Run::from(cli.command(["get", &format!("k{n}")]).output().unwrap());
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(json(&run.stdout)["body"], serde_json::json!(n));
    }
    for command in
        [&["export"][..], &["versions"], &["stats"], &["check"], &["history", "k0"], &["links", "k0"]]
    {
        let run = Run::from(cli.command(command).output().unwrap());
        assert_eq!(run.code, 0, "{command:?}: {}", run.stderr);
    }
    holder.end();
}

#[test]
fn a_reader_of_the_output_may_leave() {
    let cli = Cli::new();
    let text = "x".repeat(1_000);
    let lines: String = (0..2_000).map(|n| format!("{{\"key\":\"k{n}\",\"body\":\"{text}\"}}\n")).collect();
    cli.feed(["import", "-"], &lines);
    for command in [&["export"][..], &["versions", "--json"], &["stats"], &["--help"]] {
        let mut child = cli.command(command).spawn().unwrap();
        let mut first = [0; 1];
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut first).unwrap();
        drop(stdout);
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{command:?}");
    }
}

#[test]
fn an_import_whose_acknowledgements_nobody_reads_stops() {
    let cli = Cli::new();
    let mut child =
        cli.command(["import", "-", "--batch", "1", "--ack"]).stdin(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    let mut sent = 0;
    while stdin.write_all(format!("{{\"key\":\"k{sent}\"}}\n").as_bytes()).is_ok() {
        sent += 1;
    }
    drop(stdin);
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("acknowledgement"), "{}", run.stderr);
    cli.ok(["get", "k0"]);
}

#[test]
fn usage_is_exit_code_2_and_help_is_none() {
    let cli = Cli::new();
    for args in [&[][..], &["frobnicate"], &["get"], &["get", "a", "b"], &["import", "-", "--batch", "0"]] {
        cli.fails(2, args);
    }
    let message = cli.fails(2, ["versions", "-C", "c"]);
    assert!(message.contains("-C has no meaning for `keepstone versions`"), "{message}");
    let run = Run::from(keepstone().arg("versions").output().unwrap());
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("keepstone -s DIR versions"), "{}", run.stderr);
    for args in [&["--help"][..], &["import", "--help"], &["--version"]] {
        let run = Run::from(keepstone().args(args).output().unwrap());
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        assert!(run.stdout.contains("keepstone"), "{}", run.stdout);
    }
}

#[test]
fn nothing_but_the_result_is_printed_into_a_pipe() {
    let cli = Cli::new();
    // `feed` and `ok` hold that standard error stays empty: no progress, no colours.
    let said = cli.feed(["import", "-"], "{\"key\":\"a\"}\n");
    assert_eq!(said.lines().count(), 1);
    assert!(!cli.ok(["versions"]).contains('\u{1b}'));
}
