//! Mail over SMTP to a server that is not ours (`aiosmtpd`).

use std::{
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::platform::{Platform, free_port, http_client};

const PATIENCE: Duration = Duration::from_secs(30);

/// A mail server that keeps what it takes in a directory, one file per mail.
struct Sink {
    dir: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Sink {
    async fn start() -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let child = Command::new("aiosmtpd")
            .args(["-n", "-l", &format!("127.0.0.1:{port}"), "-c", "aiosmtpd.handlers.Mailbox"])
            .arg(dir.path().join("mail"))
            .stdout(Stdio::null())
            .spawn()
            .expect("aiosmtpd is there: infra/setup/packages.sh test");
        let sink = Self { dir, port, child };
        eventually("the sink listens", || TcpStream::connect(("127.0.0.1", port)).ok()).await;
        sink
    }

    /// Waits for the mail to `to` with this subject; returns its head and its text, with line ends as in files.
    async fn mail(&self, to: &str, subject: &str) -> String {
        let (to, subject) = (format!("\nTo: {to}\n"), format!("\nSubject: {subject}\n"));
        eventually(&format!("a mail{to}{subject}"), || {
            let files = std::fs::read_dir(self.dir.path().join("mail/new")).ok()?;
            let mut texts = files.flatten().map(|file| read(&file.path()));
            texts.find(|text| text.contains(&to) && text.contains(&subject))
        })
        .await
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a mail, with what is quoted-printable (RFC 2045 §6.7) made plain.
fn read(path: &Path) -> String {
    let text = format!("\n{}", std::fs::read_to_string(path).unwrap().replace("\r\n", "\n"));
    if text.contains("Content-Transfer-Encoding: quoted-printable") {
        text.replace("=\n", "").replace("=3D", "=")
    } else {
        text
    }
}

fn token(mail: &str, page: &str) -> String {
    let (_, rest) = mail.split_once(&format!("{page}?token=")).unwrap_or_else(|| panic!("no link in {mail}"));
    rest.split_whitespace().next().unwrap_or_default().to_owned()
}

async fn eventually<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn real_mail_proves_an_address_and_replaces_a_password() {
    let sink = Sink::start().await;
    let url = format!("smtp://127.0.0.1:{}", sink.port);
    let platform =
        Platform::start(&[("REEF_SMTP_URL", &url), ("REEF_MAIL_FROM", "Reef für alle <reef@reef.test>")])
            .await;
    let (http, base) = (http_client(), platform.base());
    let post = async |path: &str, body: Value| {
        let response = http.post(format!("{base}{path}")).json(&body).send().await.unwrap();
        response.status().as_u16()
    };
    let (email, old, new) = ("zoe@reef.test", "a rather long password", "quite another password");
    assert_eq!(post("/api/auth/signup", json!({"email": email, "password": old})).await, 201);
    let mail = sink.mail(email, "Confirm your e-mail address").await;
    for wanted in ["<reef@reef.test>", "Auto-Submitted: auto-generated", "text/html", "\nMessage-ID: <mail_"]
    {
        assert!(mail.contains(wanted), "{wanted}: {mail}");
    }
    let proof = token(&mail, &format!("{base}/verify-email"));
    assert_eq!(post("/api/auth/email/verify", json!({"token": proof})).await, 200);

    assert_eq!(post("/api/auth/password/forgot", json!({"email": email})).await, 202);
    let mail = sink.mail(email, "Choose a new password").await;
    let reset = token(&mail, &format!("{base}/reset-password"));
    assert_eq!(post("/api/auth/password/reset", json!({"token": reset, "password": new})).await, 204);
    assert_eq!(post("/api/auth/login", json!({"email": email, "password": old})).await, 401);
    assert_eq!(post("/api/auth/login", json!({"email": email, "password": new})).await, 200);
    sink.mail(email, "Your password was changed").await;
    assert!(!platform.output().contains(&reset), "what is mailed is not logged");
}

#[tokio::test]
async fn real_mail_is_shown_in_the_log_where_there_is_no_server() {
    let platform = Platform::start(&[]).await;
    let body = json!({"email": "zoe@reef.test", "password": "a rather long password"});
    let response =
        http_client().post(format!("{}/api/auth/signup", platform.base())).json(&body).send().await.unwrap();
    assert_eq!(response.status(), 201);
    let link = format!("{}/verify-email?token=", platform.base());
    eventually("the link in the log", || platform.output().contains(&link).then_some(())).await;
}
