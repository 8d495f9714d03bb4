//! The program under test as a child process: its output is collected while it runs, it is waited
//! for with a bound, and it is ended when its handle goes.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::until;

/// A program that runs.
pub struct Running {
    child: Child,
    stdout: Output,
    stderr: Output,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it, where one did.
    pub signal: Option<i32>,
    /// All that it wrote.
    pub stdout: String,
    /// All that it logged.
    pub stderr: String,
}

/// What comes out of a pipe, line by line.
struct Output {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// `twinloom` with these arguments, in `folder`.
pub fn twinloom(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinloom"));
    command.current_dir(folder).args(arguments).env_remove("RUST_LOG");
    command
}

/// Runs `twinloom` to its end.
pub fn run(folder: &Path, arguments: &[&str]) -> Ended {
    start(&mut twinloom(folder, arguments)).wait()
}

/// A program of the Python environment that the tests bring with them.
pub fn python_tool(name: &str) -> PathBuf {
    let folder = std::env::var_os("TWINLOOM_PYTHON_TOOLS").map_or_else(
        || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache/twinloom/python-tools"),
        PathBuf::from,
    );
    let program = folder.join("bin").join(name);
    assert!(program.exists(), "no {}: run make test, or .ci/python-tools", program.display());
    program
}

/// Starts a program.
pub fn start(command: &mut Command) -> Running {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = Output::collect(child.stdout.take().expect("stdout is piped"));
    let stderr = Output::collect(child.stderr.take().expect("stderr is piped"));
    Running { child, stdout, stderr }
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        self.stdout.so_far()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.stderr.so_far()
    }

    /// Waits until its log has a line with this text.
    pub fn until_logged(&mut self, text: &str) {
        until(&format!("`{text}` in the log"), || {
            if self.log().contains(text) {
                return Some(());
            }
            let ended = self.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "ended without `{text}` in its log: {}", self.log());
            None
        });
    }

    /// Sends it a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        // The shell has `kill` built in, where a small system has no program of that name.
        let id = self.id().to_string();
        let status = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &id]).status();
        assert!(status.expect("there is a shell").success(), "signal {name} to {id}");
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let status = until(&format!("the end of process {}", self.id()), || {
            self.child.try_wait().expect("a child can be asked")
        });
        Ended {
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout.finish(),
            stderr: self.stderr.finish(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of process {}\n{}", self.id(), self.log());
        }
    }
}

impl Ended {
    /// Fails unless it ended well.
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Fails unless it ended with exit code 1 and told why in one `error:` line; that line.
    pub fn failed(self) -> String {
        assert_eq!(self.code, Some(1), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        let mut errors = self.stderr.lines().filter(|line| line.starts_with("error: "));
        match (errors.next(), errors.next()) {
            (Some(line), None) => line.to_owned(),
            _ => panic!("one `error:` line was to be in: {}", self.stderr),
        }
    }

    /// The one JSON object that it wrote.
    pub fn json(&self) -> serde_json::Value {
        let read = serde_json::from_str(&self.stdout);
        read.unwrap_or_else(|error| panic!("no JSON ({error}): {}\n{}", self.stdout, self.stderr))
    }
}

impl Output {
    fn collect(pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let collected = text.clone();
        let reader = std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            // A pipe that breaks has ended.
            while pipe.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                let mut text = collected.lock().expect("nothing panics while it is locked");
                text.push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        self.text.lock().expect("nothing panics while it is locked").clone()
    }

    fn finish(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        self.so_far()
    }
}
