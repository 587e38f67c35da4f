//! Rollouts that were played already: a long run that was cut off goes on where it was.
//!
//! Takes a name for what is played; gives what the same executable has played of it before, replicate by
//! replicate. Never gives what another executable has played.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher as _};
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

use crate::simulation::world::Played;

/// What was played, and the file in which everything else is written.
pub(crate) struct Kept {
    known: BTreeMap<u64, Vec<Played>>,
    file: Mutex<File>,
}

impl Kept {
    pub(crate) fn of(what: &str) -> Self {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulation");
        let ours = all.join(hash(&fs::read(std::env::current_exe().unwrap()).unwrap()));
        Self::at(&ours.join(hash(what.as_bytes())))
    }

    fn at(path: &Path) -> Self {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = fs::read_to_string(path).unwrap_or_default();
        // The last line may be half of one.
        let known = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let file = File::options().create(true).append(true).open(path).unwrap();
        Self { known, file: Mutex::new(file) }
    }

    /// What came of this replicate when it was played; plays it if it was not.
    pub(crate) fn or_play(
        &self,
        replicate: u64,
        play: impl FnOnce() -> Vec<Played>,
    ) -> Vec<Played> {
        if let Some(known) = self.known.get(&replicate) {
            return known.clone();
        }
        let played = play();
        let line = format!("\n{}", serde_json::to_string(&(replicate, &played)).unwrap());
        self.file.lock().unwrap().write_all(line.as_bytes()).unwrap();
        played
    }
}

fn hash(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("{:016x}", hasher.finish())
}

#[test]
fn what_was_played_before_is_not_played_again() {
    use crate::simulation::cells::Kind;
    use crate::simulation::run::{product, seed};
    use crate::simulation::traffic::Towns;

    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kept");
    let _ = fs::remove_file(&path);
    let kinds = [Kind::Bad { share: 1.0 }, Kind::Bad { share: 0.2 }];
    let play = |replicate| product(&kinds, 5, &Towns::of(seed(5, replicate)));
    let first = Kept::at(&path);
    let played = [0, 1].map(|replicate| first.or_play(replicate, || play(replicate)));
    // It was cut off in the middle of the second line.
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() - 3]).unwrap();
    let second = Kept::at(&path);
    assert_eq!(second.or_play(0, || panic!("it was played before")), played[0]);
    assert_eq!(second.or_play(1, || play(1)), played[1]);
    let third = Kept::at(&path);
    assert_eq!(third.or_play(1, || panic!("it was played before")), played[1]);
}
