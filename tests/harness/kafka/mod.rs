//! A real Apache Kafka on free loopback ports, started and ended by the suite and the benches: one Java
//! process that is broker and controller, on a folder of its own.
//!
//! ```text
//!   this process ── TERM, KILL ──► java ──► folder
//!        │                          ▲         ▲
//!        └── pipe ──► watchman ─────┴─────────┘   kills and removes where the pipe ends first
//! ```
//! The watchman is there because a static is never dropped and a test may be killed: the system closes
//! the pipe of a process that ended in whatever way.
//!
//! - `admin`: topics, partitions, what is deleted of them and what is damaged
//! - `tls`: a certificate, and the settings of both sides with it
//! - `records`: a producer, and kcat as the reader that is not ours

mod admin;
pub mod records;
mod tls;

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use rdkafka::ClientConfig;
use tempfile::TempDir;

use super::{free_port, until};

/// Any 16 bytes in base64 are the id of a cluster; these are `twinloom-testing`.
const CLUSTER_ID: &str = "dHdpbmxvb20tdGVzdGluZw";

/// Quick to start and small: little of what the suite asks of it runs long enough to be compiled twice.
const JAVA: [&str; 4] = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"];

/// `sh -c` with these arguments: the process to end and the folder to remove once stdin has ended.
/// Signals of a terminal are not for it, because they come before that end.
const WATCHMAN: &str = r#"
    trap "" INT TERM HUP
    while read -r line; do :; done
    kill -s KILL "$0"
    for attempt in 1 2 3 4 5; do rm -rf "$1" && break; sleep 1; done
"#;

/// A broker that may be stopped, killed and started again, on its port and its folder.
pub struct Kafka {
    port: u16,
    folder: TempDir,
    login: Option<(String, String)>,
    has_tls: bool,
    running: Option<Running>,
}

/// The process, and who ends it where we cannot.
struct Running {
    java: Child,
    watchman: Child,
}

impl Kafka {
    /// A broker that everybody may use, running.
    pub fn started() -> Self {
        Self::with(&[])
    }

    /// A broker with these settings besides or instead of ours, running.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        Self::create(settings, None, false)
    }

    /// A broker that asks for a user and password (SASL PLAIN without TLS), running.
    pub fn with_login(user: &str, password: &str) -> Self {
        Self::create(&[], Some((user.to_owned(), password.to_owned())), false)
    }

    /// A broker that speaks TLS only, running; its certificate is in [`Kafka::certificate`].
    pub fn with_tls() -> Self {
        Self::create(&[], None, true)
    }

    /// One broker for all tests of this process that do not stop it; their topics need names of their
    /// own. It is started when it is first asked for.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(Self::started)
    }

    /// Where clients find it, as librdkafka's `bootstrap.servers`.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A client's settings for it, by their names in librdkafka.
    pub fn client(&self) -> Vec<(&'static str, String)> {
        // A broker that comes back is to be found at once, not after the usual ten seconds.
        let mut client =
            vec![("bootstrap.servers", self.brokers()), ("reconnect.backoff.max.ms", "200".to_owned())];
        if let Some((user, password)) = &self.login {
            client.push(("security.protocol", "SASL_PLAINTEXT".to_owned()));
            client.push(("sasl.mechanism", "PLAIN".to_owned()));
            client.push(("sasl.username", user.clone()));
            client.push(("sasl.password", password.clone()));
        }
        if self.has_tls {
            client.push(("security.protocol", "SSL".to_owned()));
            client.push(("ssl.ca.location", self.certificate().display().to_string()));
        }
        client
    }

    /// The same, as the client library takes it.
    pub fn config(&self) -> ClientConfig {
        self.client().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Starts it again, and waits until it leads all its partitions.
    pub fn start(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let log = File::create(self.path("log")).expect("the folder is ours");
        let mut command = java("kafka.Kafka", &log);
        // A group of its own, so that an interrupt at the terminal is the watchman's affair.
        let mut java = command.arg(self.path("settings")).process_group(0).spawn().expect(MISSING);
        let mut watchman = Command::new("sh");
        watchman.args(["-c", WATCHMAN]).arg(java.id().to_string()).arg(self.folder.path());
        watchman.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let watchman = watchman.spawn().unwrap_or_else(|error| {
            // One that has ended cannot be killed, which is as good.
            let _ = java.kill();
            panic!("there is no shell: {error}")
        });
        self.running = Some(Running { java, watchman });
        self.wait_until_it_leads();
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.end();
        }
    }

    /// Asks it to end, and waits for that.
    pub fn stop(&mut self) {
        let Some(running) = &mut self.running else { return };
        let id = running.java.id().to_string();
        let status = Command::new("sh").args(["-c", "kill -s TERM \"$0\"", &id]).status();
        assert!(status.expect("there is a shell").success(), "TERM to {id}");
        until("Kafka to stop", || running.java.try_wait().expect("a child can be asked"));
        self.kill();
    }

    /// Lets go of it as a process does that is killed, waits for the watchman, and says how it ended.
    pub fn abandon(&mut self) -> ExitStatus {
        let mut running = self.running.take().expect("it runs");
        drop(running.watchman.stdin.take());
        until("the watchman to end", || running.watchman.try_wait().expect("a child can be asked"));
        until("Kafka to end", || running.java.try_wait().expect("a child can be asked"))
    }

    /// Where it keeps all that is its own.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The id of its process, where it runs.
    pub fn process(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.java.id())
    }

    fn create(settings: &[(&str, &str)], login: Option<(String, String)>, has_tls: bool) -> Self {
        let folder =
            tempfile::Builder::new().prefix("twinloom-kafka-").tempdir().expect("a temporary folder");
        let mut kafka = Self { port: free_port(), folder, login, has_tls, running: None };
        if has_tls {
            kafka.make_certificate();
        }
        fs::write(kafka.path("settings"), kafka.settings(settings)).expect("the folder is ours");
        let log = File::create(kafka.path("log")).expect("the folder is ours");
        let mut format = java("kafka.tools.StorageTool", &log);
        format.args(["format", "-t", CLUSTER_ID, "-c"]).arg(kafka.path("settings"));
        let status = format.status().expect(MISSING);
        assert!(status.success(), "Kafka's folder is not made ({status}):\n{}", kafka.log());
        kafka.start();
        kafka
    }

    /// Its settings file. Of a setting that stands there twice, Java takes the later.
    fn settings(&self, more: &[(&str, &str)]) -> String {
        let port = self.port;
        let controller = until("a second port", || Some(free_port()).filter(|other| *other != port));
        let data = self.path("data");
        let data = data.display();
        let protocol = match (&self.login, self.has_tls) {
            (Some(_), _) => "SASL_PLAINTEXT",
            (None, true) => "SSL",
            (None, false) => "PLAINTEXT",
        };
        let mut text = format!(
            "process.roles=broker,controller\nnode.id=1\nlog.dirs={data}\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
             listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=CLIENTS://127.0.0.1:{port}\ninter.broker.listener.name=CLIENTS\n\
             listener.security.protocol.map=CLIENTS:{protocol},CONTROLLER:PLAINTEXT\n"
        );
        text.push_str(SETTINGS);
        if let Some((user, password)) = &self.login {
            text.push_str(&format!(
                "sasl.enabled.mechanisms=PLAIN\nsasl.mechanism.inter.broker.protocol=PLAIN\n\
                 listener.name.clients.plain.sasl.jaas.config=\
                 org.apache.kafka.common.security.plain.PlainLoginModule required \
                 username=\"{user}\" password=\"{password}\" user_{user}=\"{password}\";\n"
            ));
        }
        if self.has_tls {
            text.push_str(&self.tls_settings());
        }
        text.extend(more.iter().map(|(name, value)| format!("{name}={value}\n")));
        text
    }

    /// It listens before it leads: after a kill it is fenced until its last session has run out.
    fn wait_until_it_leads(&mut self) {
        let port = self.port;
        until("Kafka to listen", || {
            self.assert_running();
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(())
        });
        let client = self.admin();
        until("Kafka to lead its partitions", || {
            self.assert_running();
            let metadata = client.inner().fetch_metadata(None, std::time::Duration::from_secs(1)).ok()?;
            let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
            let mut leaders = partitions.map(|partition| partition.leader());
            (metadata.brokers().len() == 1 && leaders.all(|leader| leader >= 0)).then_some(())
        });
    }

    fn assert_running(&mut self) {
        let running = self.running.as_mut().expect("it was just started");
        if let Some(status) = running.java.try_wait().expect("a child can be asked") {
            panic!("Kafka ended ({status}); is port {} taken?\n{}", self.port, self.log());
        }
    }

    /// All that the Java process said, which is nothing while it is well.
    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Running {
    /// The watchman goes last, so that at no time nobody would end the other.
    fn end(&mut self) {
        // One that has ended cannot be killed, which is as good.
        let _ = self.java.kill();
        let _ = self.watchman.kill();
        let _ = self.java.wait();
        let _ = self.watchman.wait();
    }
}

/// Whoever reads this has one command to run.
const MISSING: &str = "Java 17 or newer is installed (run make test, or .ci/kafka)";

/// Small buffers and few threads, no waits that are meant for a cluster, and internal topics that have
/// one partition and one copy.
const SETTINGS: &str = "\
auto.create.topics.enable=false
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
controller.quorum.election.backoff.max.ms=100
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=4194304
log.cleaner.backoff.ms=500
log.initial.task.delay.ms=500
log.retention.check.interval.ms=500
";

/// A main class of Kafka, which speaks to this file.
fn java(class: &str, log: &File) -> Command {
    let jars = jars();
    assert!(jars.join("complete").exists(), "no Kafka in {}: run make test, or .ci/kafka", jars.display());
    let mut command = Command::new("java");
    // Classes of an earlier run, where .ci/kafka has kept some; Java goes without where they do not fit.
    let classes = [OsString::from("-XX:SharedArchiveFile="), jars.join("kafka.jsa").into()].into_iter();
    command
        .args(JAVA)
        .arg(classes.collect::<OsString>())
        .arg("-cp")
        .arg(jars.join("lib/*"))
        .arg(class)
        .stdin(Stdio::null());
    let log = || log.try_clone().expect("an open file has a second handle");
    command.stdout(log()).stderr(log());
    command
}

/// Where .ci/kafka puts the jars.
fn jars() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("TWINLOOM_KAFKA").unwrap_or_else(|| {
        let cache = folder("XDG_CACHE_HOME");
        let cache = cache.or_else(|| folder("HOME").map(|home| home.join(".cache")));
        cache.as_deref().unwrap_or(Path::new("/nowhere")).join("twinloom/kafka-4.1.1")
    })
}
