//! Files of `/proc` and `/sys` that are read again and again: opened once, so that they can be read when nothing can
//! be opened any more (see [`super::fence`]).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

static OPEN: Mutex<BTreeMap<PathBuf, File>> = Mutex::new(BTreeMap::new());

/// The text of `path` as it is now. A file that could not be opened is tried again the next time.
pub(crate) fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let path = path.as_ref();
    let mut open = OPEN.lock().map_err(|_| io::Error::other("a thread failed while it read"))?;
    if let Some(file) = open.get(path) {
        return text(file);
    }
    let file = File::open(path)?;
    let text = text(&file);
    open.insert(path.to_owned(), file);
    text
}

/// Everything in `file`, from its start.
fn text(file: &File) -> io::Result<String> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match file.read_at(&mut piece, bytes.len() as u64)? {
            0 => break,
            n => bytes.extend_from_slice(piece.get(..n).unwrap_or_default()),
        }
    }
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_is_read_anew() {
        let path = std::env::temp_dir().join(format!("trill-kept-{}", std::process::id()));
        assert!(read(&path).is_err());
        for content in ["a", &"long ".repeat(2000), ""] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read(&path).unwrap(), content);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read(&path).unwrap(), "");
        let threads = read("/proc/self/status").unwrap();
        assert!(threads.contains("Threads:") && read("/proc/self/status").unwrap().contains("Threads:"));
    }
}
