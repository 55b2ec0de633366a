//! Steps that are run one after another, timed, and reported at the end.

use std::time::{Duration, Instant};

use crate::error::Error;

/// Runs steps and remembers how each one went.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    keep_going: bool,
    done: Vec<Step>,
    skipped: Vec<&'static str>,
    not_shown: Vec<String>,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    time: Duration,
    error: Option<Error>,
}

impl Steps {
    /// No step yet. With `keep_going`, a step that fails does not keep the ones after it from running.
    pub(crate) fn new(keep_going: bool) -> Self {
        Self { keep_going, ..Self::default() }
    }

    /// Runs a step, unless one before it failed and that is the end. What the step could not show is returned by it.
    pub(crate) fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<Vec<String>, Error>) {
        if self.has_ended() {
            self.skipped.push(name);
            return;
        }
        println!("\n=== {name}");
        let started = Instant::now();
        let error = match step() {
            Ok(not_shown) => {
                self.not_shown.extend(not_shown);
                None
            }
            Err(error) => {
                eprintln!("xtask: {name}: {error}");
                Some(error)
            }
        };
        self.done.push(Step { name, time: started.elapsed(), error });
    }

    /// A failure ends the run unless it is to keep going; an interrupt always does.
    fn has_ended(&self) -> bool {
        self.done
            .iter()
            .filter_map(|step| step.error.as_ref())
            .any(|error| !self.keep_going || matches!(error, Error::Interrupted { .. }))
    }

    /// Prints the time of each step, what was left out and what failed.
    pub(crate) fn finish(self) -> Result<(), Error> {
        print!("{}", self.summary());
        let failed =
            self.done.into_iter().filter(|step| step.error.is_some()).map(|step| step.name.to_owned());
        let failed: Vec<String> = failed.collect();
        if failed.is_empty() { Ok(()) } else { Err(Error::Steps(failed)) }
    }

    fn summary(&self) -> String {
        let mut text = String::from("\nstep        time  result\n");
        for Step { name, time, error } in &self.done {
            let result = error.as_ref().map_or_else(|| "ok".to_owned(), |error| format!("FAILED: {error}"));
            text.push_str(&format!("{name:<8} {:>5.1} s  {result}\n", time.as_secs_f64()));
        }
        for name in &self.skipped {
            text.push_str(&format!("{name:<8}       -  not run, a step before it failed\n"));
        }
        let total: Duration = self.done.iter().map(|step| step.time).sum();
        text.push_str(&format!("{:<8} {:>5.1} s\n", "total", total.as_secs_f64()));
        for line in &self.not_shown {
            text.push_str(&format!("not shown: {line}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail() -> Result<Vec<String>, Error> {
        Err(Error::Refused("on purpose".to_owned()))
    }

    #[test]
    fn the_first_failure_ends_the_run() {
        let mut steps = Steps::new(false);
        steps.run("first", || Ok(vec!["a target".to_owned()]));
        steps.run("second", fail);
        steps.run("third", || panic!("must not run"));
        let summary = steps.summary();
        assert!(summary.contains("FAILED: on purpose"), "{summary}");
        assert!(summary.contains("third          -  not run"), "{summary}");
        assert!(summary.contains("not shown: a target"), "{summary}");
        assert!(matches!(steps.finish(), Err(Error::Steps(names)) if names == ["second"]));
    }

    #[test]
    fn keeping_going_runs_and_names_all() {
        let mut steps = Steps::new(true);
        steps.run("first", fail);
        steps.run("second", || Ok(Vec::new()));
        steps.run("third", fail);
        assert!(matches!(steps.finish(), Err(Error::Steps(names)) if names == ["first", "third"]));
    }

    #[test]
    fn an_interrupt_ends_the_run_in_any_case() {
        let mut steps = Steps::new(true);
        steps.run("first", || Err(Error::Interrupted { command: "sleep".to_owned() }));
        steps.run("second", || panic!("must not run"));
        assert_eq!(steps.skipped, ["second"]);
    }
}
