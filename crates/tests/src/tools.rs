//! The node and Python packages that `scripts/test` installs into `.test-tools`: what receivers verify deliveries with.
//! A test that needs them fails without them; it is never skipped.

use std::{
    ffi::OsString,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where a file that is part of the tests is: `crates/tests/fixtures/<name>`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A program of `.test-tools`, else of the system; needs this package of `.test-tools`.
fn program(name: &str, package: &str) -> Command {
    let tools = root().join(".test-tools");
    assert!(
        tools.join(package).exists(),
        "{} is missing: run `scripts/test`, which installs what the tests need",
        tools.join(package).display()
    );
    let mut path = OsString::from(tools.join("venv/bin"));
    #[expect(clippy::disallowed_methods, reason = "the harness has no settings of its own")]
    if let Ok(own) = std::env::var("PATH") {
        path.push(":");
        path.push(own);
    }
    let mut command = Command::new("/usr/bin/env");
    command.arg(name).env("PATH", path).env("NODE_PATH", tools.join("node/node_modules"));
    command
}

/// node, with a package that has to be installed.
///
/// # Panics
/// When the package is not there.
pub fn node(package: &str) -> Command {
    program("node", &format!("node/node_modules/{package}/package.json"))
}

/// The Python of the tests' environment.
///
/// # Panics
/// When it is not there.
pub fn python() -> Command {
    program("python", "venv/bin/python")
}

/// Runs a program with this input and returns what it printed.
///
/// # Panics
/// When it does not start or fails, with what it said.
pub fn run(mut command: Command, input: &str) -> String {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the program starts");
    let mut stdin = child.stdin.take().expect("it has an input");
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    let fed = feeder.join().expect("no panic");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}:\n{out}\n{err}", output.status);
    fed.expect("it read its input");
    out.into_owned()
}
