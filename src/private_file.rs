//! Files that hold a secret: a private key, or an account's credentials.
//!
//! ```no_run
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use certwright::jose::AccountKey;
//! use certwright::private_file;
//!
//! let key = AccountKey::generate()?;
//! private_file::write("account-key.pem", key.to_pkcs8_pem()?)?;
//! # Ok(()) }
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

/// Writes a file that only its owner may read, whole or not at all.
///
/// The content goes into a new file in the same directory, with the mode 0600 on Unix whatever the
/// umask, and is on the disk before that file takes the name. So there is at each moment the old file
/// or the new one, whole, even where the machine stops; and a file that others could read before is
/// replaced, not written to. Where the path is a symbolic link, the link is replaced.
///
/// On other systems than Unix, who may read the file is as the directory says.
///
/// It blocks for as long as the disk takes. Where it fails, the old file is as it was. Where the
/// process is killed, a file may be left behind whose name starts with a dot and ends in `.tmp`.
pub fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<(), WriteError> {
    let path = path.as_ref();
    replace(path, content.as_ref()).map_err(|source| WriteError {
        path: path.to_owned(),
        source,
    })
}

/// A private file could not be written. What was there before is there still.
#[derive(Debug, Error)]
#[error("the private file {} can't be written: {source}", .path.display())]
#[non_exhaustive]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// What went wrong.
    pub source: io::Error,
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let (mut file, unfinished) = create(directory, &name.to_string_lossy())?;
    let written = file
        .write_all(content)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&unfinished, path));
    if let Err(error) = written {
        // It is of no use; and where it can't be removed either, the first error tells more.
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }

    // The name is on the disk when the directory is. Not every file system can do that, and the file
    // is in its place.
    #[cfg(unix)]
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
    Ok(())
}

/// A new file, which nobody else has open or can put a link in the place of.
fn create(directory: &Path, name: &str) -> io::Result<(File, PathBuf)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // Names may be 255 octets long at most file systems.
    let name: String = name.chars().take(48).collect();
    for _ in 0..ATTEMPTS {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!(".{name}.{}-{count}.tmp", process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&path) {
            Ok(file) => {
                // A umask can take away from the mode, down to what the owner can't read.
                #[cfg(unix)]
                file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
                return Ok((file, path));
            }
            // Left behind by another process that had this number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

const ATTEMPTS: usize = 100;
