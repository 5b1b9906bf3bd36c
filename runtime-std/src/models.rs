//! Which model to use when the user does not say.

use crate::exit::{Code, Failure, Outcome};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    /// The one in the binary.
    BuiltIn,
}

/// The model in the binary, if there is one: a bitnet-b1.58 of five million parameters that was trained on
/// TinyStories (`tests/data/README.md`).
pub(crate) fn built_in() -> Option<&'static [u8]> {
    #[cfg(feature = "built-in-model")]
    {
        /// A mapped file begins at a page; so does this.
        #[repr(C, align(4096))]
        struct Page<B: ?Sized>(B);
        static MODEL: &Page<[u8]> = &Page(*include_bytes!("../../tests/data/stories-bitnet-I2_S.gguf"));
        Some(&MODEL.0)
    }
    #[cfg(not(feature = "built-in-model"))]
    None
}

/// How a story begins when nobody asks for anything.
pub(crate) const OPENING: &str = "Once upon a time";

/// The file given with `-m`, else `$TRILL_MODEL`, else the newest `.gguf` in the models folder, else the model in
/// the binary.
pub(crate) fn find(given: Option<&Path>) -> Outcome<Source> {
    if let Some(path) = given {
        return Ok(Source::File(path.to_owned()));
    }
    if let Some(path) = std::env::var_os("TRILL_MODEL").filter(|p| !p.is_empty()) {
        return Ok(Source::File(path.into()));
    }
    let folder = folder();
    if let Some(path) = folder.as_deref().and_then(newest) {
        return Ok(Source::File(path));
    }
    built_in().map(|_| Source::BuiltIn).ok_or_else(|| {
        let tried = folder.map_or_else(String::new, |f| format!(" and {} holds none", f.display()));
        Failure::new(Code::Usage, format!("no model: TRILL_MODEL is not set{tried}"))
            .remedy("give a GGUF file with -m FILE")
    })
}

/// `$XDG_DATA_HOME/trill/models`, by default `~/.local/share/trill/models`.
fn folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")))?;
    Some(data.join("trill/models"))
}

fn newest(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    files
        .filter(|path| path.extension().is_some_and(|e| e == "gguf"))
        .filter_map(|path| {
            let about = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((about.modified().unwrap_or(SystemTime::UNIX_EPOCH), path))
        })
        .max()
        .map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_newest_gguf_is_taken() {
        let folder = std::env::temp_dir().join(format!("trill-models-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("folder.gguf")).unwrap();
        assert_eq!(newest(&folder), None);
        let now = SystemTime::now();
        for (name, age) in [("old.gguf", 50), ("new.gguf", 10), ("newer.txt", 0)] {
            let file = std::fs::File::create(folder.join(name)).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        }
        assert_eq!(newest(&folder), Some(folder.join("new.gguf")));
        std::fs::remove_dir_all(folder).unwrap();
        assert_eq!(find(Some(Path::new("x"))).unwrap(), Source::File("x".into()));
    }
}
