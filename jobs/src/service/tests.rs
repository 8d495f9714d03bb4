//! Jobs that are applied, changed, paused, cancelled, dismissed and found again. Their broker is not there, which
//! holds up nothing of that.

use super::*;

fn job(name: &str) -> String {
    format!(
        "job: {name}
connections: {{plant: {{mqtt: {{url: \"mqtt://127.0.0.1:1\"}}}}}}
types:
  device:
    properties: {{t: {{type: double}}}}
    physical:
      telemetry: {{from: plant, topics: [\"{name}/{{twin}}\"], at: arrival, properties: {{t: /t}}, expected_rate: 1/s}}
    entanglement: {{window: 60s}}
"
    )
}

struct Site {
    folder: tempfile::TempDir,
    board: Arc<Board>,
    service: Arc<Service>,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (board, service) = Self::start(folder.path());
        Self { folder, board, service }
    }

    fn start(folder: &Path) -> (Arc<Board>, Arc<Service>) {
        let board = Arc::new(Board::default());
        (board.clone(), Service::start(folder, 1, Tenants::default(), board).expect("it starts"))
    }

    /// The server ends and starts again.
    fn again(self) -> Self {
        self.service.end();
        let (board, service) = Self::start(self.folder.path());
        Self { folder: self.folder, board, service }
    }

    /// The jobs with what they do, their version and generation.
    fn jobs(&self) -> String {
        let show = |job: Arc<LiveJob>| {
            let generation = job.running.as_ref().map_or(0, |running| running.generation);
            format!("{} {:?} v{} g{generation}", job.name, job.status, job.version).to_lowercase()
        };
        self.board.all().into_iter().map(show).collect::<Vec<_>>().join(", ")
    }
}

#[test]
fn a_job_goes_through_its_states_and_is_found_again() {
    let site = Site::new();
    let text = job("line");
    assert!(site.service.apply("line", &text).expect("it is applied").is_new());
    assert_eq!(site.jobs(), "line running v1 g1");
    let again = site.service.apply("line", &format!("# the same\n{text}")).expect("it is no change");
    assert!(!again.is_new());
    assert_eq!(site.jobs(), "line running v1 g1");
    site.service.apply("line", &text.replace("60s", "90s")).expect("it is changed");
    assert_eq!(site.jobs(), "line running v2 g2");
    let live = text.replace("window: 60s", "window: 90s, threshold: 0.5");
    site.service.apply("line", &live).expect("it is changed while it runs");
    assert_eq!(site.jobs(), "line running v3 g2");
    site.service.pause("line").expect("it is paused");
    site.service.pause("line").expect("it stays so");
    assert_eq!(site.jobs(), "line paused v3 g3");
    let site = site.again();
    assert_eq!(site.jobs(), "line paused v3 g4");
    site.service.resume("line").expect("it runs");
    assert!(matches!(site.service.dismiss("line"), Err(ServiceError::NotNow(_))));
    site.service.cancel("line").expect("it is cancelled");
    assert_eq!(site.jobs(), "line done v3 g6");
    assert!(matches!(site.service.resume("line"), Err(ServiceError::NotNow(_))));
    assert!(matches!(site.service.apply("line", &text), Err(ServiceError::NotNow(_))));
    let site = site.again();
    assert_eq!(site.jobs(), "line done v3 g7");
    site.service.dismiss("line").expect("it is let go of");
    assert!(matches!(site.service.dismiss("line"), Err(ServiceError::Unknown(_))));
    let site = site.again();
    assert_eq!(site.jobs(), "");
    site.service.end();
}

#[test]
fn what_cannot_be_is_refused_and_nothing_changes() {
    let site = Site::new();
    let text = job("line");
    site.service.apply("line", &text).expect("it is applied");
    let refused = |name: &str, text: &str| site.service.apply(name, text).expect_err("refused").to_string();
    for (name, text, expected) in [
        ("other", text.clone(), "the job file is that of `line`, not of `other`"),
        ("line", text.replace("double", "text"), "not valid"),
        ("line", text.replace("double", "string"), "refused: types.device.properties.t.type"),
        (
            "second",
            text.replace("job: line", "job: second"),
            "read the same messages into twins of their own",
        ),
    ] {
        let found = refused(name, &text);
        assert!(found.contains(expected), "{found}");
    }
    assert_eq!(site.jobs(), "line running v1 g1");
    site.service.end();
}

/// The process may be used for long: what is dismissed leaves nothing behind.
#[test]
fn jobs_that_come_and_go_leave_nothing_behind() {
    let site = Site::new();
    for _ in 0..10 {
        site.service.apply("line", &job("line")).expect("it is applied");
        site.service.cancel("line").expect("it is cancelled");
        site.service.dismiss("line").expect("it is let go of");
    }
    assert_eq!(site.jobs(), "");
    let left = std::fs::read_dir(site.folder.path().join("jobs")).expect("the folder is there").count();
    assert_eq!(left, 0);
    site.service.end();
}
