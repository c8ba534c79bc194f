use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tracing::debug;

use super::Http01Error;
use super::live_tokens::LiveTokens;
use crate::error::BoxError;
use crate::jose::KeyAuthorization;
use crate::protocol::{ChallengeType, Identifier, Token};
use crate::solver::{ChallengeSolver, Presentation};

/// Solves http-01 (RFC 8555 §8.3) with files in a directory that a web server serves on port 80.
///
/// While a challenge is being presented, its key authorization is the content of the file
/// `.well-known/acme-challenge/<token>` of the web server's root directory. All else is up to the
/// web server: that it serves files whose directory begins with a dot, and that it serves this one
/// for each of the names, over IPv4 and IPv6. CAs demand no particular `Content-Type`.
///
/// The file can be read by every user, whatever the umask. It is there whole or not at all, where the
/// file system has hard links. It is never written through a symbolic link, nor over another file. A file that is there already with the right content serves as it
/// is. In the end it is deleted, also where another process wrote it that ended too early; a file
/// with other content is not, and directories never are.
///
/// Clones share what they know of the files. Two solvers for one directory do not: an answer that
/// both present is deleted by the first of them that is done.
///
/// ```
/// use certwright::solver::Http01Webroot;
///
/// let solver = Http01Webroot::new("/var/www/html");
/// ```
#[derive(Clone, Debug)]
pub struct Http01Webroot {
    challenges: Arc<ChallengeDirectory>,
}

impl Http01Webroot {
    /// Writes to `.well-known/acme-challenge` in the root directory of a web server.
    ///
    /// The root directory must be there when a challenge is presented; the two in it are made where
    /// they are missing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::writing_to(root.into(), &[".well-known", "acme-challenge"])
    }

    /// Writes straight to a directory that the web server serves at the path
    /// [`/.well-known/acme-challenge/`](super::Http01Responder::PATH_PREFIX).
    ///
    /// It must be there when a challenge is presented. It may be given by way of a symbolic link.
    ///
    /// ```
    /// # use certwright::solver::Http01Webroot;
    /// // For nginx: location /.well-known/acme-challenge/ { alias /var/lib/acme-challenge/; }
    /// let solver = Http01Webroot::from_challenge_directory("/var/lib/acme-challenge");
    /// ```
    pub fn from_challenge_directory(directory: impl Into<PathBuf>) -> Self {
        Self::writing_to(directory.into(), &[])
    }

    fn writing_to(root: PathBuf, names: &[&str]) -> Self {
        let below = names.iter().scan(root.clone(), |path, name| {
            path.push(name);
            Some(path.clone())
        });
        Self {
            challenges: Arc::new(ChallengeDirectory {
                below: below.collect(),
                root,
                live: LiveTokens::default(),
                written: Arc::default(),
            }),
        }
    }

    /// Brings the file of a token in line with whether the token is live.
    ///
    /// It looks at what is live once it has the files to itself, so the order in which calls for
    /// one token come to their turn does not matter. Nor does it if a caller stops waiting: what is
    /// begun ends on the blocking thread.
    async fn settle(&self, presentation: &Presentation) -> Result<(), BoxError> {
        let (Some(token), Some(answer)) = (presentation.token(), presentation.key_authorization())
        else {
            return Ok(());
        };
        let challenges = self.challenges.clone();
        let (token, answer) = (token.clone(), answer.clone());
        // Held while files are written and deleted, and nothing else: see `ChallengeDirectory`.
        let mut written = challenges.written.clone().lock_owned().await;
        Ok(spawn_blocking(move || challenges.settle(&token, &answer, &mut written)).await??)
    }
}

#[async_trait]
impl ChallengeSolver for Http01Webroot {
    fn can_solve(&self, identifier: &Identifier, challenge_type: &ChallengeType) -> bool {
        *challenge_type == ChallengeType::Http01 && challenge_type.can_validate(identifier)
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.challenges.live.add(presentation)?;
        self.settle(presentation).await
    }

    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.challenges.live.remove(presentation);
        self.settle(presentation).await
    }
}

#[derive(Debug)]
struct ChallengeDirectory {
    /// What the caller named; it must be there.
    root: PathBuf,
    /// The directories below it, outermost first, the last the one for the files.
    below: Vec<PathBuf>,
    live: LiveTokens,
    /// The files that are there because we wrote them, and the lock on all files.
    written: Arc<Mutex<HashMap<Token, KeyAuthorization>>>,
}

impl ChallengeDirectory {
    fn settle(
        &self,
        token: &Token,
        answer: &KeyAuthorization,
        written: &mut HashMap<Token, KeyAuthorization>,
    ) -> Result<(), Http01Error> {
        // A `Token` has no character that could lead out of the directory.
        let path = self.below.last().unwrap_or(&self.root).join(token.as_str());
        let live = self.live.key_authorization(token);
        if let Some(ours) = written.get(token)
            && live.as_ref() != Some(ours)
        {
            delete(&path, ours)?;
            written.remove(token);
        }
        match live {
            Some(live) => {
                if !written.contains_key(token) {
                    self.make_directories()?;
                    if write(&path, &live)? {
                        written.insert(token.clone(), live);
                    }
                }
            }
            // What a process has left that ended before it was done is not in `written`.
            None => {
                let _ = fs::remove_file(draft(&path));
                delete(&path, answer)?;
            }
        }
        Ok(())
    }

    fn make_directories(&self) -> Result<(), Http01Error> {
        // A root that is not there is a mistake to be told, not a directory to be made: no web
        // server would serve from it, and validation would fail.
        if !self.root.is_dir() {
            return Err(Http01Error::NotADirectory {
                path: self.root.clone(),
            });
        }
        self.below.iter().try_for_each(|path| make_directory(path))
    }
}

/// Makes a directory where there is none; a symbolic link to one is refused.
///
/// Who can write to the webroot could otherwise make a more privileged process write elsewhere.
/// That the link is put there between this look and the writing is not ruled out.
fn make_directory(path: &Path) -> Result<(), Http01Error> {
    match fs::create_dir(path) {
        Ok(()) => {
            open_directory_to_all(path).map_err(io_error("set the permissions of", path))?;
            debug!(path = %path.display(), "directory made");
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(io_error("create", path)(source)),
    }

    let metadata = fs::symlink_metadata(path).map_err(io_error("read", path))?;
    if metadata.is_symlink() {
        return Err(Http01Error::SymbolicLink { path: path.into() });
    }
    if !metadata.is_dir() {
        return Err(Http01Error::NotADirectory { path: path.into() });
    }
    Ok(())
}

/// Lets every user, so also the web server's, into a directory just made, whatever the umask.
#[cfg(unix)]
fn open_directory_to_all(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    // By a handle that is sure to be of the directory at this path: by the path alone, a symbolic
    // link put there in the meantime would be followed.
    let directory = File::open(path)?;
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    if identity(directory.metadata()?) != identity(fs::symlink_metadata(path)?) {
        return Ok(());
    }
    directory.set_permissions(fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn open_directory_to_all(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Writes a key authorization to a new file. The answer is `false` where one with this content is
/// there already.
fn write(path: &Path, key_authorization: &KeyAuthorization) -> Result<bool, Http01Error> {
    // Written beside its place, and linked into it, it is there whole or not at all: of a process
    // that was killed halfway, a part would be in the way of the next one.
    let draft = draft(path);
    let _ = fs::remove_file(&draft);
    let linked = create(&draft)
        .and_then(|file| fill(file, key_authorization))
        .and_then(|()| fs::hard_link(&draft, path));
    let _ = fs::remove_file(&draft);
    if linked.is_ok() {
        debug!(path = %path.display(), "key authorization written");
        return Ok(true);
    }

    // There is a file already, or the file system has no hard links.
    let file = match create(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return match Found::at(path, key_authorization).map_err(io_error("read", path))? {
                Found::KeyAuthorization => Ok(false),
                Found::SymbolicLink => Err(Http01Error::SymbolicLink { path: path.into() }),
                Found::Other => Err(Http01Error::Occupied { path: path.into() }),
            };
        }
        Err(source) => return Err(io_error("create", path)(source)),
    };

    fill(file, key_authorization).map_err(|source| {
        // It is ours, and as it is it would be in the way of the next attempt.
        let _ = fs::remove_file(path);
        io_error("write", path)(source)
    })?;
    debug!(path = %path.display(), "key authorization written");
    Ok(true)
}

/// Where a file is written before it is in its place.
fn draft(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // `create_new` follows no symbolic link, not even one that leads nowhere.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
    options.open(path)
}

fn fill(mut file: File, key_authorization: &KeyAuthorization) -> io::Result<()> {
    // The mode at opening is cut by the umask, which may keep the web server's user from reading.
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.write_all(key_authorization.as_str().as_bytes())
}

/// Deletes the file of an answer, unless it is gone or replaced.
fn delete(path: &Path, key_authorization: &KeyAuthorization) -> Result<(), Http01Error> {
    let found = match Found::at(path, key_authorization) {
        Ok(found) => found,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotADirectory | io::ErrorKind::NotFound
            ) =>
        {
            return Ok(());
        }
        Err(source) => return Err(io_error("read", path)(source)),
    };
    if !matches!(found, Found::KeyAuthorization) {
        debug!(path = %path.display(), "left alone: not the answer");
        return Ok(());
    }

    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("delete", path)(error))
        }
        _ => {
            debug!(path = %path.display(), "key authorization deleted");
            Ok(())
        }
    }
}

/// What is in the place of a key authorization.
enum Found {
    KeyAuthorization,
    Other,
    SymbolicLink,
}

impl Found {
    fn at(path: &Path, expected: &KeyAuthorization) -> io::Result<Self> {
        let expected = expected.as_str().as_bytes();
        let metadata = fs::symlink_metadata(path)?;
        if metadata.is_symlink() {
            return Ok(Self::SymbolicLink);
        }
        if !metadata.is_file() || metadata.len() != expected.len() as u64 {
            return Ok(Self::Other);
        }

        let mut content = Vec::new();
        File::open(path)?
            .take(expected.len() as u64)
            .read_to_end(&mut content)?;
        Ok(match content == expected {
            true => Self::KeyAuthorization,
            false => Self::Other,
        })
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Http01Error {
    move |source| Http01Error::Io {
        action,
        path: path.into(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use tempfile::TempDir;

    use super::super::testing::*;
    use super::*;

    #[tokio::test]
    async fn writes_and_deletes_its_file() {
        let webroot = Webroot::new();
        let presentation = presentation(TOKEN, &thumbprint());

        webroot.solver.present(&presentation).await.unwrap();
        assert_eq!(
            fs::read_to_string(webroot.file(TOKEN)).unwrap(),
            presentation.key_authorization().unwrap().as_str()
        );
        webroot.solver.wait(&presentation).await.unwrap();
        webroot.solver.clean_up(&presentation).await.unwrap();
        assert_eq!(webroot.files(), 0);

        // As after a `present` that never ran.
        webroot.solver.clean_up(&presentation).await.unwrap();
    }

    #[tokio::test]
    async fn keeps_the_file_until_the_last_clean_up() {
        let webroot = Webroot::new();
        let presentation = presentation(TOKEN, &thumbprint());

        webroot.solver.present(&presentation).await.unwrap();
        webroot.solver.clone().present(&presentation).await.unwrap();
        webroot.solver.clean_up(&presentation).await.unwrap();
        assert_eq!(webroot.files(), 1);
        webroot.solver.clean_up(&presentation).await.unwrap();
        assert_eq!(webroot.files(), 0);
    }

    #[tokio::test]
    async fn takes_a_left_over_file_with_the_same_content_and_deletes_it() {
        let webroot = Webroot::new();
        let presentation = presentation(TOKEN, &thumbprint());
        let content = presentation.key_authorization().unwrap().as_str();
        webroot.make_directories();
        fs::write(webroot.file(TOKEN), content).unwrap();

        webroot.solver.present(&presentation).await.unwrap();
        assert_eq!(fs::read_to_string(webroot.file(TOKEN)).unwrap(), content);
        webroot.solver.clean_up(&presentation).await.unwrap();
        assert_eq!(webroot.files(), 0);

        // As in a process that did not present it itself.
        fs::write(webroot.file(TOKEN), content).unwrap();
        webroot.solver.clean_up(&presentation).await.unwrap();
        assert_eq!(webroot.files(), 0);
        fs::write(webroot.file(TOKEN), "another's").unwrap();
        webroot.solver.clean_up(&presentation).await.unwrap();
        assert_eq!(webroot.files(), 1);
    }

    #[tokio::test]
    async fn a_part_that_a_killed_process_has_written_is_not_in_the_way() {
        let webroot = Webroot::new();
        let presentation = presentation(TOKEN, &thumbprint());
        let content = presentation.key_authorization().unwrap().as_str();
        webroot.make_directories();
        let draft = draft(&webroot.file(TOKEN));

        for part in ["", &content[..10], content] {
            fs::write(&draft, part).unwrap();
            webroot.solver.present(&presentation).await.unwrap();
            assert_eq!(fs::read_to_string(webroot.file(TOKEN)).unwrap(), content);
            assert_eq!(webroot.files(), 1);
            webroot.solver.clean_up(&presentation).await.unwrap();
            assert_eq!(webroot.files(), 0);

            fs::write(&draft, part).unwrap();
            webroot.solver.clean_up(&presentation).await.unwrap();
            assert_eq!(webroot.files(), 0);
        }

        // Where no draft can be made, the file is written in its place.
        fs::create_dir(&draft).unwrap();
        webroot.solver.present(&presentation).await.unwrap();
        assert_eq!(fs::read_to_string(webroot.file(TOKEN)).unwrap(), content);
        webroot.solver.clean_up(&presentation).await.unwrap();
        assert!(!webroot.file(TOKEN).exists());
    }

    #[tokio::test]
    async fn refuses_and_keeps_a_file_with_other_content() {
        let webroot = Webroot::new();
        let presentation = presentation(TOKEN, &thumbprint());
        let length = presentation.key_authorization().unwrap().as_str().len();
        webroot.make_directories();
        for content in [String::new(), "other".into(), "x".repeat(length)] {
            fs::write(webroot.file(TOKEN), &content).unwrap();
            let error = webroot.refusal(&presentation).await;
            assert!(matches!(error, Http01Error::Occupied { .. }), "{error}");
            assert!(error.to_string().contains(TOKEN), "{error}");
            assert_eq!(fs::read_to_string(webroot.file(TOKEN)).unwrap(), content);
        }
    }

    #[tokio::test]
    async fn keeps_a_file_that_replaced_its_own() {
        let webroot = Webroot::new();
        let presentation = presentation(TOKEN, &thumbprint());
        webroot.solver.present(&presentation).await.unwrap();
        fs::write(webroot.file(TOKEN), "another's").unwrap();
        webroot.solver.clean_up(&presentation).await.unwrap();
        assert_eq!(
            fs::read_to_string(webroot.file(TOKEN)).unwrap(),
            "another's"
        );

        let webroot = Webroot::new();
        webroot.solver.present(&presentation).await.unwrap();
        fs::remove_file(webroot.file(TOKEN)).unwrap();
        webroot.solver.clean_up(&presentation).await.unwrap();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn follows_no_symbolic_link() {
        use std::os::unix::fs::symlink;

        let presentation = presentation(TOKEN, &thumbprint());
        let elsewhere = tempfile::tempdir().unwrap();
        let content = presentation.key_authorization().unwrap().as_str();
        fs::write(elsewhere.path().join("same"), content).unwrap();

        // In place of the file, to nothing and to a file that would do.
        for target in ["nothing", "same"] {
            let webroot = Webroot::new();
            webroot.make_directories();
            symlink(elsewhere.path().join(target), webroot.file(TOKEN)).unwrap();
            let error = webroot.refusal(&presentation).await;
            assert!(matches!(error, Http01Error::SymbolicLink { .. }), "{error}");
        }
        assert!(!elsewhere.path().join("nothing").exists());

        // In place of a directory.
        for name in [".well-known", ".well-known/acme-challenge"] {
            let webroot = Webroot::new();
            let link = webroot.directory.path().join(name);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(elsewhere.path(), &link).unwrap();
            let error = webroot.refusal(&presentation).await;
            assert!(
                matches!(&error, Http01Error::SymbolicLink { path } if *path == link),
                "{error}"
            );
        }
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);

        // The directory that the caller names may be one.
        let webroot = Webroot::new();
        let link = webroot.directory.path().join("link");
        symlink(elsewhere.path(), &link).unwrap();
        let solver = Http01Webroot::from_challenge_directory(&link);
        solver.present(&presentation).await.unwrap();
        assert!(elsewhere.path().join(TOKEN).is_file());
        solver.clean_up(&presentation).await.unwrap();
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn lets_the_web_server_read() {
        use std::os::unix::fs::PermissionsExt;

        let webroot = Webroot::new();
        let presentation = presentation(TOKEN, &thumbprint());
        webroot.solver.present(&presentation).await.unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let root = webroot.directory.path();
        assert_eq!(mode(webroot.file(TOKEN)), 0o644);
        assert_eq!(mode(root.join(".well-known")), 0o755);
        assert_eq!(mode(root.join(".well-known/acme-challenge")), 0o755);
    }

    /// The umask belongs to the process, so the test above runs again in processes of its own.
    #[cfg(unix)]
    #[test]
    fn lets_the_web_server_read_whatever_the_umask() {
        for umask in ["0000", "0077"] {
            let output = std::process::Command::new("sh")
                .args(["-c", "umask $1 && exec \"$0\" --exact \"$2\""])
                .arg(std::env::current_exe().unwrap())
                .args([
                    umask,
                    "solver::http01::webroot::tests::lets_the_web_server_read",
                ])
                .output()
                .unwrap();
            let stdout = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{umask}: {stdout}");
            assert!(stdout.contains("1 passed"), "{umask}: {stdout}");
        }
    }

    #[tokio::test]
    async fn says_what_is_wrong_with_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let presentation = presentation(TOKEN, &thumbprint());
        let missing = directory.path().join("missing");
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [missing, file] {
            for solver in [
                Http01Webroot::new(&path),
                Http01Webroot::from_challenge_directory(&path),
            ] {
                let error = solver.present(&presentation).await.unwrap_err().to_string();
                let start = format!("`{}` is not a directory", path.display());
                assert!(error.starts_with(&start), "{error}");
                solver.clean_up(&presentation).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn presents_many_side_by_side() {
        let webroot = Webroot::new();
        let key = thumbprint();
        let presentations: Vec<_> = (0..100)
            .map(|number| presentation(&numbered_token(number / 2), &key))
            .collect();

        let (solver, each) = (&webroot.solver, || presentations.iter());
        for result in join_all(each().map(|presented| solver.present(presented))).await {
            result.unwrap();
        }
        assert_eq!(webroot.files(), 50);
        for result in join_all(each().map(|presented| solver.clean_up(presented))).await {
            result.unwrap();
        }
        assert_eq!(webroot.files(), 0);
    }

    #[tokio::test]
    async fn presents_for_another_account_in_the_place_of_the_first() {
        let webroot = Webroot::new();
        let [first, second] = [thumbprint(), thumbprint()].map(|key| presentation(TOKEN, &key));
        webroot.solver.present(&first).await.unwrap();
        let error = webroot.refusal(&second).await;
        assert!(matches!(error, Http01Error::TokenInUse { .. }), "{error}");

        // The second comes before the file of the first is deleted.
        webroot.solver.challenges.live.remove(&first);
        webroot.solver.present(&second).await.unwrap();
        webroot.solver.clean_up(&first).await.unwrap();
        assert_eq!(
            fs::read_to_string(webroot.file(TOKEN)).unwrap(),
            second.key_authorization().unwrap().as_str()
        );
        webroot.solver.clean_up(&second).await.unwrap();
        assert_eq!(webroot.files(), 0);
    }

    #[tokio::test]
    async fn dropping_a_call_halfway_leaves_no_file() {
        let webroot = Webroot::new();
        let presentation = presentation(TOKEN, &thumbprint());

        // Dropped before it has the files to itself.
        let others = webroot.solver.challenges.written.lock().await;
        let present = webroot.solver.present(&presentation);
        assert!(present.now_or_never().is_none());
        drop(others);
        webroot.solver.clean_up(&presentation).await.unwrap();
        assert_eq!(webroot.files(), 0);

        // Dropped after; the work goes on beside the rest, or is over by chance.
        for _ in 0..20 {
            let _ = webroot.solver.present(&presentation).now_or_never();
            webroot.solver.clean_up(&presentation).await.unwrap();
            assert_eq!(webroot.files(), 0);
        }
    }

    struct Webroot {
        solver: Http01Webroot,
        directory: TempDir,
    }

    impl Webroot {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            Self {
                solver: Http01Webroot::new(directory.path()),
                directory,
            }
        }

        fn challenge_directory(&self) -> PathBuf {
            self.directory.path().join(".well-known/acme-challenge")
        }

        fn make_directories(&self) {
            fs::create_dir_all(self.challenge_directory()).unwrap();
        }

        fn file(&self, token: &str) -> PathBuf {
            self.challenge_directory().join(token)
        }

        fn files(&self) -> usize {
            fs::read_dir(self.challenge_directory()).map_or(0, Iterator::count)
        }

        async fn refusal(&self, presentation: &Presentation) -> Http01Error {
            let error = self.solver.present(presentation).await.unwrap_err();
            self.solver.clean_up(presentation).await.unwrap();
            *error.downcast().unwrap()
        }
    }
}
