//! Random binds and file operations on a union end as in a simple model.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use xen9p::errno::Errno;
use xen9p::ns::{Bind, MemTree, Namespace, NsError};
use xen9p_testing::bed::memory::bed;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// Trees at /e0, /e1 …; the last one is the directory that the union is made at.
const TREES: usize = 5;
const ORIGINAL: usize = TREES - 1;

#[derive(Clone, Copy, Debug)]
enum Op {
    Bind {
        tree: usize,
        how: u8,
        create: bool,
    },
    UnmountFrom(usize),
    Unmount,
    Write(usize, u8),
    Read(usize),
    RemoveFile(usize),
    CreateDir(usize),
    RemoveDir(usize),
    Rename(usize, usize),
    /// Behind the union's back.
    Put(usize, usize, u8),
}

fn op() -> impl Strategy<Value = Op> {
    let (tree, name) = (0..ORIGINAL, 0..NAMES.len());
    prop_oneof![
        3 => (tree.clone(), 0..3u8, any::<bool>())
            .prop_map(|(tree, how, create)| Op::Bind { tree, how, create }),
        1 => (0..TREES).prop_map(Op::UnmountFrom),
        1 => Just(Op::Unmount),
        4 => (name.clone(), any::<u8>()).prop_map(|(name, byte)| Op::Write(name, byte)),
        1 => name.clone().prop_map(Op::Read),
        2 => name.clone().prop_map(Op::RemoveFile),
        2 => name.clone().prop_map(Op::CreateDir),
        1 => name.clone().prop_map(Op::RemoveDir),
        2 => (name.clone(), name.clone()).prop_map(|(from, to)| Op::Rename(from, to)),
        2 => (tree, name, any::<u8>()).prop_map(|(tree, name, byte)| Op::Put(tree, name, byte)),
    ]
}

/// A directory of files with one byte, and of empty directories.
type Dir = BTreeMap<&'static str, Option<u8>>;

struct Model {
    trees: [Dir; TREES],
    /// Tree, whether it takes what is made, whether it was there first.
    union: Vec<(usize, bool, bool)>,
}

impl Model {
    fn find(&self, name: &str) -> Option<usize> {
        let mut trees = self.union.iter().map(|&(tree, ..)| tree);
        trees.find(|&tree| self.trees[tree].contains_key(name))
    }

    fn creator(&self) -> Result<usize, Errno> {
        match self.union[..] {
            [(only, ..)] => Ok(only),
            _ => {
                let found = self.union.iter().find(|(_, create, _)| *create);
                found.map(|&(tree, ..)| tree).ok_or(Errno::EROFS)
            }
        }
    }

    fn is_plain(&self) -> bool {
        self.union.iter().all(|&(.., original)| original)
    }

    fn bind(&mut self, tree: usize, how: u8, create: bool) -> Result<(), NsError> {
        let old = self.union.clone();
        let new = vec![(tree, create, false)];
        let union = match how {
            0 => new,
            1 => [new, old].concat(),
            _ => [old, new].concat(),
        };
        if union.len() > 40 {
            return Err(NsError::TooManyElements);
        }
        self.union = union;
        Ok(())
    }

    fn unmount(&mut self, which: Option<usize>) -> Result<(), NsError> {
        if self.is_plain() {
            return Err(NsError::NotMounted);
        }
        let before = self.union.len();
        self.union
            .retain(|&(tree, ..)| which.is_some_and(|which| tree != which));
        if self.union.len() == before {
            return Err(NsError::NoSuchElement);
        }
        if self.is_plain() {
            self.union = vec![(ORIGINAL, false, true)];
        }
        Ok(())
    }

    fn write(&mut self, name: &'static str, byte: u8) -> Result<(), Errno> {
        let tree = match self.find(name) {
            Some(tree) if self.trees[tree][name].is_none() => return Err(Errno::EISDIR),
            Some(tree) => tree,
            None => self.creator()?,
        };
        self.trees[tree].insert(name, Some(byte));
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let tree = self.find(name).ok_or(Errno::ENOENT)?;
        self.trees[tree][name]
            .map(|byte| vec![byte])
            .ok_or(Errno::EISDIR)
    }

    fn remove(&mut self, name: &str, dir: bool) -> Result<(), Errno> {
        let tree = self.find(name).ok_or(Errno::ENOENT)?;
        match (self.trees[tree][name], dir) {
            (Some(_), true) => Err(Errno::ENOTDIR),
            (None, false) => Err(Errno::EISDIR),
            _ => {
                self.trees[tree].remove(name);
                Ok(())
            }
        }
    }

    fn create_dir(&mut self, name: &'static str) -> Result<(), Errno> {
        if self.find(name).is_some() {
            return Err(Errno::EEXIST);
        }
        let tree = self.creator()?;
        self.trees[tree].insert(name, None);
        Ok(())
    }

    fn rename(&mut self, from: &'static str, to: &'static str) -> Result<(), Errno> {
        let tree = self.find(from).ok_or(Errno::ENOENT)?;
        if self.find(to).is_some_and(|other| other != tree) {
            return Err(Errno::EXDEV);
        }
        let dir = &mut self.trees[tree];
        match (dir[from], dir.get(to)) {
            (None, Some(Some(_))) => return Err(Errno::ENOTDIR),
            (Some(_), Some(None)) => return Err(Errno::EISDIR),
            _ => {}
        }
        let moved = dir.remove(from).unwrap();
        dir.insert(to, moved);
        Ok(())
    }

    fn listing(&self) -> BTreeSet<(String, bool)> {
        let names = NAMES.iter().filter_map(|name| {
            let tree = self.find(name)?;
            Some((name.to_string(), self.trees[tree][name].is_none()))
        });
        names.collect()
    }
}

fn listing(ns: &Namespace, path: &str) -> BTreeSet<(String, bool)> {
    let mut set = BTreeSet::new();
    for entry in ns.read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let is_dir = entry.file_type().unwrap().is_dir();
        let new = set.insert((entry.file_name_lossy().into_owned(), is_dir));
        assert!(new, "{entry:?} twice");
    }
    set
}

fn run(ops: &[Op]) {
    // Every other tree is on a server.
    let beds = [bed(), bed()];
    let ns = Namespace::new(MemTree::new());
    ns.create_dir("/u").unwrap();
    for tree in 0..ORIGINAL {
        let at = format!("/e{tree}");
        match tree % 2 {
            0 => ns.mount(beds[tree / 2].fs.clone(), at).unwrap(),
            _ => ns.mount(MemTree::new(), at).unwrap(),
        }
    }
    // Shows the original directory whatever is bound over it.
    let plain = ns.fork();
    let mut model = Model {
        trees: Default::default(),
        union: vec![(ORIGINAL, false, true)],
    };
    let path = |name: usize| format!("/u/{}", NAMES[name]);
    for (step, &op) in ops.iter().enumerate() {
        let what = format!("step {step}, {op:?}");
        let no = |error: xen9p::fs::Error| error.errno();
        match op {
            Op::Bind { tree, how, create } => {
                let kind = [Bind::REPLACE, Bind::BEFORE, Bind::AFTER][usize::from(how)];
                let kind = if create { kind.create() } else { kind };
                let real = ns.bind(format!("/e{tree}"), "/u", kind);
                assert_eq!(real, model.bind(tree, how, create), "{what}");
            }
            Op::UnmountFrom(ORIGINAL) => {
                let real = ns.unmount_from("/e0/nothing", "/u");
                assert!(matches!(real, Err(NsError::NoSource(_))), "{what}");
            }
            Op::UnmountFrom(tree) => {
                let real = ns.unmount_from(format!("/e{tree}"), "/u");
                assert_eq!(real, model.unmount(Some(tree)), "{what}");
            }
            Op::Unmount => assert_eq!(ns.unmount("/u"), model.unmount(None), "{what}"),
            Op::Write(name, byte) => {
                let real = ns.write(path(name), [byte]).map_err(no);
                assert_eq!(real, model.write(NAMES[name], byte), "{what}");
            }
            Op::Read(name) => {
                let real = ns.read(path(name)).map_err(no);
                assert_eq!(real, model.read(NAMES[name]), "{what}");
            }
            Op::RemoveFile(name) => {
                let real = ns.remove_file(path(name)).map_err(no);
                assert_eq!(real, model.remove(NAMES[name], false), "{what}");
            }
            Op::CreateDir(name) => {
                let real = ns.create_dir(path(name)).map_err(no);
                assert_eq!(real, model.create_dir(NAMES[name]), "{what}");
            }
            Op::RemoveDir(name) => {
                let real = ns.remove_dir(path(name)).map_err(no);
                assert_eq!(real, model.remove(NAMES[name], true), "{what}");
            }
            Op::Rename(from, to) => {
                let real = ns.rename(path(from), path(to)).map_err(no);
                assert_eq!(real, model.rename(NAMES[from], NAMES[to]), "{what}");
            }
            Op::Put(tree, name, byte) => {
                let name = NAMES[name];
                if model.trees[tree].get(name) != Some(&None) {
                    ns.write(format!("/e{tree}/{name}"), [byte]).expect(&what);
                    model.trees[tree].insert(name, Some(byte));
                }
            }
        }
        assert_eq!(listing(&ns, "/u"), model.listing(), "{what}");
    }
    // Each tree is what the model thinks, seen without the union.
    for (tree, dir) in model.trees.iter().enumerate() {
        let at = if tree == ORIGINAL {
            "/u".into()
        } else {
            format!("/e{tree}")
        };
        let wanted = dir
            .iter()
            .map(|(name, file)| (name.to_string(), file.is_none()));
        assert_eq!(listing(&plain, &at), wanted.collect(), "{at}");
        for (name, file) in dir {
            if let Some(byte) = file {
                assert_eq!(plain.read(format!("{at}/{name}")).unwrap(), [*byte]);
            }
        }
    }
    drop((ns, plain));
    beds.into_iter()
        .for_each(xen9p_testing::bed::memory::Bed::finish);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn a_union_is_what_the_model_says(ops in prop::collection::vec(op(), 1..80)) {
        run(&ops);
    }
}
