//! The suite that every runtime passes.
//!
//! An adapter's test binary implements [`Harness`] and calls [`conformance_tests!`](crate::conformance_tests), which
//! makes one test per case. The instances run [`DOOR`], a stand-in for `reef-instance` that starts in milliseconds
//! and says what it was started with.

use std::{
    collections::BTreeMap, future::Future, io, os::unix::fs::symlink, pin::pin, sync::Arc, task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, future::join_all};
use reef_model::{InstanceId, Plan, Power, UserId};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    time::{Instant, sleep, timeout},
};

use crate::{Exit, Hint, InstanceSpec, Observed, Runtime, RuntimeError, door};

/// A program (Python 3) to run in the place of `reef-instance`.
pub const DOOR: &str = include_str!("../fixtures/door.py");

/// What an adapter's harness configures.
pub const TERMINAL_IDLE: Duration = Duration::from_secs(1_234);

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);

/// More than any graceful stop of the stand-in takes.
const GRACE: Duration = Duration::from_secs(30);

/// What the suite must know beyond the trait.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// Returns a new runtime over the same data, as a restarted control plane would make it.
    async fn runtime(&self) -> Arc<dyn Runtime>;

    /// Kills the main process of a running instance with SIGKILL, behind the runtime's back.
    async fn kill(&self, running: &Observed);

    /// Counts the instance's running doors without asking the runtime.
    async fn live(&self, id: InstanceId) -> usize;

    /// Names all that is left of an instance on the machine: processes, containers, volumes, directories.
    async fn traces(&self, id: InstanceId) -> Vec<String>;

    /// Removes what a failed case left.
    async fn clean_up(&self);
}

/// Makes one test for each case of the suite; the argument is an expression whose future gives a [`Harness`].
#[macro_export]
macro_rules! conformance_tests {
    ($harness:expr) => {
        $crate::conformance_tests!(@each $harness;
            starts_once,
            concurrent_callers_start_one_run,
            another_generation_restarts_and_keeps_data,
            stops_gracefully_and_once,
            stops_the_stubborn_by_force,
            removes_everything_and_once,
            is_found_by_a_fresh_runtime,
            reports_a_crash,
            reports_how_it_ended,
            dials_no_link,
            the_run_directory_is_stable,
            refuses_bad_specs,
            a_start_that_was_cut_off_converges,
            a_stop_that_was_cut_off_converges,
            a_removal_that_was_cut_off_converges,
        );
    };
    (@each $harness:expr; $($case:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $case() {
            let harness = ::std::sync::Arc::new($harness.await);
            $crate::conformance::run(harness, $crate::conformance::$case).await;
        }
    )*};
}

/// Runs one case and cleans up after it, also where it fails.
pub async fn run<H: Harness, F: Future<Output = ()> + Send + 'static>(
    harness: Arc<H>,
    case: impl FnOnce(Arc<dyn Harness>) -> F,
) {
    let outcome = tokio::spawn(case(harness.clone())).await;
    harness.clean_up().await;
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// Returns a spec that every runtime takes.
pub fn spec() -> InstanceSpec {
    InstanceSpec {
        id: InstanceId::generate(),
        tenant: UserId::generate(),
        generation: 1,
        limits: Plan::Free.limits(),
        image: None,
        env: BTreeMap::from([("GREETING".into(), "hello \"world\"\n".into())]),
        door_token: SecretString::from("door-token"),
        gateway_token: SecretString::from("gateway-token"),
    }
}

/// Sends the stand-in one request, as soon as it listens, and returns its answer; `Null` where it died instead.
pub async fn ask(runtime: &dyn Runtime, id: InstanceId, request: Value) -> Value {
    let deadline = Instant::now() + PATIENCE;
    let stream = loop {
        match runtime.dial(id).await {
            Ok(stream) => break stream,
            Err(error) => assert!(
                matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
                    && Instant::now() < deadline,
                "dial: {error}"
            ),
        }
        sleep(Duration::from_millis(10)).await;
    };
    let mut stream = BufReader::new(stream);
    stream.write_all(format!("{request}\n").as_bytes()).await.expect("the stand-in reads");
    let mut line = String::new();
    // A stand-in that was told to exit resets the connection.
    let _ = timeout(PATIENCE, stream.read_line(&mut line)).await.expect("the stand-in answers");
    serde_json::from_str(&line).unwrap_or(Value::Null)
}

/// Waits until the instance is seen as stopped.
pub async fn until_stopped(runtime: &dyn Runtime, id: InstanceId) -> Observed {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let observed = inspect(runtime, id).await;
        if observed.power == Power::Stopped {
            return observed;
        }
        assert!(Instant::now() < deadline, "still {observed:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn start(runtime: &dyn Runtime, spec: &InstanceSpec) -> Observed {
    let observed = runtime.ensure_started(spec, GRACE).await.expect("starts");
    assert_eq!((observed.id, observed.generation), (spec.id, spec.generation));
    assert_eq!((observed.power, observed.exit), (Power::Running, None));
    observed
}

async fn inspect(runtime: &dyn Runtime, id: InstanceId) -> Observed {
    runtime.inspect(id).await.expect("inspects").expect("is there")
}

async fn about(runtime: &dyn Runtime, id: InstanceId) -> Value {
    ask(runtime, id, json!({})).await
}

/// Drops a future at its `polls`-th await, unless it is done by then.
async fn cut_off<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// Where to cut: every early await, then ever wider apart.
fn cuts() -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |n| Some(n + 1 + n / 4))
}

/// A second start of the same generation does nothing; what the instance gets is what the spec says.
pub async fn starts_once(harness: Arc<dyn Harness>) {
    let runtime = harness.runtime().await;
    let spec = spec();
    assert!(runtime.inspect(spec.id).await.expect("inspects").is_none());
    let first = start(&*runtime, &spec).await;
    assert!(first.started_at.is_some() && !first.handle.is_empty());
    let told = about(&*runtime, spec.id).await;
    let again = start(&*runtime, &spec).await;
    assert_eq!(first, again);
    assert_eq!(inspect(&*runtime, spec.id).await, first);
    assert_eq!(runtime.list().await.expect("lists"), [first]);
    assert_eq!(about(&*runtime, spec.id).await, told);
    assert_eq!(told["runs"], 1);
    for (flag, value) in door::arguments(TERMINAL_IDLE) {
        assert_eq!(told["flags"][flag], value, "{flag}");
    }
    assert_eq!(
        told["boot"],
        json!({
            "instance_id": spec.id, "generation": 1, "door_token": "door-token",
            "gateway_token": "gateway-token", "env": spec.env, "pids": spec.limits.pids,
        })
    );
}

/// Callers at once, through one runtime and through two, make one run.
pub async fn concurrent_callers_start_one_run(harness: Arc<dyn Harness>) {
    let (one, two) = (harness.runtime().await, harness.runtime().await);
    let mut spec = spec();
    for generation in 1..=2 {
        spec.generation = generation;
        let started = join_all([&one, &one, &two, &two].map(|runtime| start(&**runtime, &spec))).await;
        assert!(started.iter().all(|observed| observed.handle == started[0].handle), "{started:?}");
        assert_eq!(about(&*one, spec.id).await["runs"], generation);
        assert_eq!(harness.live(spec.id).await, 1);
    }
}

/// Another generation ends the old run and starts one with the new spec over the old data.
pub async fn another_generation_restarts_and_keeps_data(harness: Arc<dyn Harness>) {
    let runtime = harness.runtime().await;
    let mut spec = spec();
    let first = start(&*runtime, &spec).await;
    let wrote = ask(&*runtime, spec.id, json!({"hands": ["sh", "-c", "echo mine > kept"]})).await;
    assert_eq!(wrote["code"], 0, "{wrote}");
    spec.generation = 7;
    spec.env.insert("MORE".into(), "1".into());
    let second = start(&*runtime, &spec).await;
    assert_ne!(first.handle, second.handle);
    let told = about(&*runtime, spec.id).await;
    assert_eq!(told["boot"]["env"]["MORE"], "1");
    assert_eq!((&told["runs"], &told["was_graceful"]), (&json!(2), &json!(true)));
    assert_eq!(ask(&*runtime, spec.id, json!({"hands": ["cat", "kept"]})).await["out"], "mine\n");
    assert_eq!(harness.live(spec.id).await, 1);
}

/// A stop lets the door finish, keeps what was known, and is done once.
pub async fn stops_gracefully_and_once(harness: Arc<dyn Harness>) {
    let runtime = harness.runtime().await;
    let spec = spec();
    assert!(!runtime.stop(spec.id, GRACE).await.expect("stops nothing"));
    start(&*runtime, &spec).await;
    about(&*runtime, spec.id).await;
    assert!(runtime.stop(spec.id, GRACE).await.expect("stops"));
    let stopped = inspect(&*runtime, spec.id).await;
    assert_eq!((stopped.power, stopped.generation, stopped.exit), (Power::Stopped, 1, None));
    assert_eq!(harness.live(spec.id).await, 0);
    assert!(!runtime.stop(spec.id, GRACE).await.expect("is stopped"));
    assert!(runtime.dial(spec.id).await.is_err());
    start(&*runtime, &spec).await;
    let told = about(&*runtime, spec.id).await;
    assert_eq!((&told["runs"], &told["was_graceful"]), (&json!(2), &json!(true)));
}

/// A door that does not end within the grace is ended, with what it started.
pub async fn stops_the_stubborn_by_force(harness: Arc<dyn Harness>) {
    let runtime = harness.runtime().await;
    let mut spec = spec();
    spec.env.insert("STUBBORN".into(), "1".into());
    start(&*runtime, &spec).await;
    let left = ask(&*runtime, spec.id, json!({"leave": ["sleep", "1000"]})).await;
    assert!(left["pid"].is_u64(), "{left}");
    assert!(runtime.stop(spec.id, Duration::from_millis(300)).await.expect("stops"));
    assert_eq!(until_stopped(&*runtime, spec.id).await.exit, None);
    assert_eq!(harness.live(spec.id).await, 0);
    start(&*runtime, &spec).await;
    assert_eq!(about(&*runtime, spec.id).await["was_graceful"], false);
    assert!(runtime.remove(spec.id).await.expect("removes"));
    assert_eq!(harness.traces(spec.id).await, [""; 0]);
}

/// Removal takes processes and data, whatever state the instance is in, and leaves others alone.
pub async fn removes_everything_and_once(harness: Arc<dyn Harness>) {
    let runtime = harness.runtime().await;
    let (running, stopped, prepared, other) = (spec(), spec(), spec(), spec());
    for spec in [&running, &stopped, &other] {
        start(&*runtime, spec).await;
    }
    runtime.stop(stopped.id, GRACE).await.expect("stops");
    runtime.run_dir(prepared.id).await.expect("makes a run directory");
    for id in [running.id, stopped.id, prepared.id] {
        assert!(runtime.remove(id).await.expect("removes"));
        assert_eq!(harness.traces(id).await, [""; 0]);
        assert!(runtime.inspect(id).await.expect("inspects").is_none());
        assert!(!runtime.remove(id).await.expect("removes nothing"));
    }
    let left: Vec<_> = runtime.list().await.expect("lists").into_iter().map(|it| it.id).collect();
    assert_eq!(left, [other.id]);
    assert_eq!(about(&*runtime, other.id).await["runs"], 1);
}

/// A restarted control plane finds everything without a database, and goes on with it.
pub async fn is_found_by_a_fresh_runtime(harness: Arc<dyn Harness>) {
    let (running, stopped) = (spec(), spec());
    let before = harness.runtime().await;
    let mut found = vec![start(&*before, &running).await];
    start(&*before, &stopped).await;
    before.stop(stopped.id, GRACE).await.expect("stops");
    found.push(inspect(&*before, stopped.id).await);
    drop(before);

    let after = harness.runtime().await;
    let mut listed = after.list().await.expect("lists");
    listed.sort_by_key(|observed| observed.id);
    found.sort_by_key(|observed| observed.id);
    assert_eq!(listed, found);
    start(&*after, &running).await;
    assert_eq!(about(&*after, running.id).await["runs"], 1);

    let mut hints = after.hints();
    let observed = inspect(&*after, running.id).await;
    harness.kill(&observed).await;
    until_hint(&mut hints, running.id).await;
    assert!(until_stopped(&*after, running.id).await.exit.is_some());
}

/// A killed main process is hinted at, reported, and started again.
pub async fn reports_a_crash(harness: Arc<dyn Harness>) {
    let runtime = harness.runtime().await;
    let spec = spec();
    let mut hints = runtime.hints();
    let first = start(&*runtime, &spec).await;
    about(&*runtime, spec.id).await;
    harness.kill(&first).await;
    let observed = loop {
        until_hint(&mut hints, spec.id).await;
        let observed = inspect(&*runtime, spec.id).await;
        if observed.power == Power::Stopped {
            break observed;
        }
    };
    assert_eq!((observed.generation, observed.exit), (1, Some(Exit { code: 137, is_oom: false })));
    assert!(!runtime.stop(spec.id, GRACE).await.expect("is stopped"));
    start(&*runtime, &spec).await;
    let told = about(&*runtime, spec.id).await;
    assert_eq!((&told["runs"], &told["was_graceful"]), (&json!(2), &json!(false)));
}

async fn until_hint(hints: &mut (impl futures_util::Stream<Item = Hint> + Unpin), id: InstanceId) {
    let wanted = [Hint::Instance(id), Hint::All];
    while let Some(hint) = timeout(PATIENCE, hints.next()).await.expect("a hint comes") {
        if wanted.contains(&hint) {
            return;
        }
    }
    panic!("hints ended");
}

/// The status of a door that ended by itself is reported.
pub async fn reports_how_it_ended(harness: Arc<dyn Harness>) {
    let runtime = harness.runtime().await;
    let spec = spec();
    let mut hints = runtime.hints();
    start(&*runtime, &spec).await;
    ask(&*runtime, spec.id, json!({"exit": 3})).await;
    let observed = loop {
        until_hint(&mut hints, spec.id).await;
        let observed = inspect(&*runtime, spec.id).await;
        if observed.power == Power::Stopped {
            break observed;
        }
    };
    assert_eq!(observed.exit, Some(Exit { code: 3, is_oom: false }));
}

/// A socket that was replaced by a link is not followed.
pub async fn dials_no_link(harness: Arc<dyn Harness>) {
    let runtime = harness.runtime().await;
    let (spec, other) = (spec(), spec());
    let run = runtime.run_dir(spec.id).await.expect("makes a run directory");
    assert_eq!(runtime.dial(spec.id).await.expect_err("no door").kind(), io::ErrorKind::NotFound);
    start(&*runtime, &other).await;
    about(&*runtime, other.id).await;
    let elsewhere = runtime.run_dir(other.id).await.expect("is there").door_socket();
    symlink(elsewhere, run.door_socket()).expect("links");
    assert_eq!(runtime.dial(spec.id).await.expect_err("a link").kind(), io::ErrorKind::InvalidInput);
    std::fs::remove_file(run.door_socket()).expect("unlinks");
    start(&*runtime, &spec).await;
    assert_eq!(about(&*runtime, spec.id).await["boot"]["instance_id"], json!(spec.id));
}

/// The run directory never moves, and what the caller put into `in/` stays over starts and stops.
pub async fn the_run_directory_is_stable(harness: Arc<dyn Harness>) {
    let runtime = harness.runtime().await;
    let spec = spec();
    let run = runtime.run_dir(spec.id).await.expect("makes a run directory");
    std::fs::write(run.model_socket(), "").expect("in/ is ours");
    let found = inspect(&*runtime, spec.id).await;
    assert_eq!((found.generation, found.power, found.handle.as_str()), (0, Power::Stopped, ""));
    start(&*runtime, &spec).await;
    runtime.stop(spec.id, GRACE).await.expect("stops");
    start(&*runtime, &spec).await;
    assert_eq!(harness.runtime().await.run_dir(spec.id).await.expect("is there"), run);
    assert!(run.model_socket().exists());
}

/// A spec that can never work is refused, and nothing runs.
pub async fn refuses_bad_specs(harness: Arc<dyn Harness>) {
    let runtime = harness.runtime().await;
    let env = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let good = spec();
    let bad = [
        InstanceSpec { env: env("A=B", "x"), ..good.clone() },
        InstanceSpec { env: env("", "x"), ..good.clone() },
        InstanceSpec { env: env("A", "x\0y"), ..good.clone() },
        InstanceSpec { env: env("A", &"x".repeat(200_000)), ..good.clone() },
        InstanceSpec { generation: 0, ..good.clone() },
        InstanceSpec { image: Some("no such image".into()), ..good.clone() },
        InstanceSpec { limits: reef_model::Limits { memory_bytes: 0, ..good.limits }, ..good.clone() },
    ];
    for spec in bad {
        let outcome = runtime.ensure_started(&spec, GRACE).await;
        assert!(matches!(outcome, Err(RuntimeError::Refused(_))), "{outcome:?} of {:?}", spec.env);
    }
    assert_eq!(harness.live(good.id).await, 0);
}

/// A start that is cut off at any await and made again gives one run of the wanted generation.
pub async fn a_start_that_was_cut_off_converges(harness: Arc<dyn Harness>) {
    let runtime = harness.runtime().await;
    let mut spec = spec();
    for polls in cuts() {
        let outcome = cut_off(polls, runtime.ensure_started(&spec, GRACE)).await;
        start(&*runtime, &spec).await;
        assert_eq!(about(&*runtime, spec.id).await["boot"]["generation"], spec.generation);
        assert_eq!(harness.live(spec.id).await, 1, "cut at {polls}");
        if outcome.is_some() {
            break;
        }
        spec.generation += 1;
    }
}

/// A stop that is cut off at any await and made again leaves nothing running.
pub async fn a_stop_that_was_cut_off_converges(harness: Arc<dyn Harness>) {
    let runtime = harness.runtime().await;
    let spec = spec();
    for polls in cuts() {
        start(&*runtime, &spec).await;
        // Before it listens, it may not hear a request to end.
        about(&*runtime, spec.id).await;
        let outcome = cut_off(polls, runtime.stop(spec.id, GRACE)).await;
        runtime.stop(spec.id, GRACE).await.expect("stops");
        let stopped = inspect(&*runtime, spec.id).await;
        assert_eq!((stopped.power, stopped.exit), (Power::Stopped, None), "cut at {polls}");
        assert_eq!(harness.live(spec.id).await, 0, "cut at {polls}");
        if outcome.is_some() {
            break;
        }
    }
}

/// A removal that is cut off at any await and made again leaves nothing at all.
pub async fn a_removal_that_was_cut_off_converges(harness: Arc<dyn Harness>) {
    let runtime = harness.runtime().await;
    for polls in cuts() {
        let spec = spec();
        start(&*runtime, &spec).await;
        let outcome = cut_off(polls, runtime.remove(spec.id)).await;
        runtime.remove(spec.id).await.expect("removes");
        assert_eq!(harness.traces(spec.id).await, [""; 0], "cut at {polls}");
        if outcome.is_some() {
            break;
        }
    }
}
