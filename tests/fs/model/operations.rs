//! One random operation, on the files and on the model: both fail with the same error, or both go well.

use std::collections::BTreeMap;

use xen9p::errno::Errno;
use xen9p::fs::{OpenOptions, Result};
use xen9p::tree::files::Fs;
use xen9p::tree::{Node as TreeNode, OpenFile};

use xen9p_testing::random::Random;

use super::{Abilities, Handle, Model, Node};

fn put(content: &mut Vec<u8>, at: usize, data: &[u8]) {
    if !data.is_empty() {
        content.resize(content.len().max(at + data.len()), 0);
        content[at..at + data.len()].copy_from_slice(data);
    }
}

/// Both failed with the same error, or both went well.
#[track_caller]
fn same<T>(what: &str, real: Result<T>, model: std::result::Result<(), Errno>) -> Option<T> {
    let got = real.as_ref().map(drop).map_err(|error| error.errno());
    assert_eq!(got, model, "{what}");
    real.ok()
}

fn random_data(random: &mut Random) -> Vec<u8> {
    let len = match random.below(10) {
        0 => 0,
        1..=6 => random.below(300),
        7 | 8 => random.below(9000),
        _ => random.below(150_000),
    };
    random.bytes(len)
}

#[expect(clippy::too_many_arguments, reason = "the state of a test run")]
pub(super) fn one<N: TreeNode>(
    fs: &Fs<N>,
    model: &mut Model,
    random: &mut Random,
    handles: &mut Vec<Handle<N::File>>,
    can: Abilities,
    op: usize,
    path: &[u8],
    other: &[u8],
    what: &str,
) {
    match op {
        0..=2 => {
            let data = random_data(random);
            let made = model.create(path);
            if let Ok(node) = made {
                *model.content(node) = data.clone();
            }
            same(what, fs.write(path, &data), made.map(drop));
        }
        3 => {
            let data = random_data(random);
            let made = model.create(path);
            if let Ok(node) = made {
                model.content(node).extend_from_slice(&data);
            }
            let mut options = OpenOptions::new();
            let file = options.append(true).create(true).open(fs, path);
            if let Some(file) = same(what, file, made.map(drop)) {
                file.write_all(&data).expect(what);
            }
        }
        4 => {
            let found = model.found(path, true);
            let found = found.and_then(|node| match &model.nodes[node] {
                Node::Dir(_) => Err(Errno::EISDIR),
                _ => Ok(node),
            });
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).open(fs, path);
            if let Some(file) = same(what, file, found.map(drop)) {
                handles.push(Handle {
                    file,
                    node: found.unwrap(),
                });
            }
            if handles.len() > 8 {
                let gone = handles.swap_remove(random.below(handles.len()));
                gone.file.close().expect(what);
            }
        }
        5..=8 => on_handle(model, random, handles, can, op, what),
        9 => {
            let made = model.place(path, false).and_then(|(dir, name, entry)| {
                if entry.is_some() {
                    return Err(Errno::EEXIST);
                }
                let node = model.add(Node::Dir(BTreeMap::new()));
                model.entries(dir).insert(name, node);
                Ok(())
            });
            same(what, fs.create_dir(path), made);
        }
        10 | 11 => remove(fs, model, handles, can, path, what),
        12 => {
            let removed = model.place(path, false).and_then(|(dir, name, entry)| {
                let entries = model.dir(entry.ok_or(Errno::ENOENT)?)?;
                if !entries.is_empty() {
                    return Err(Errno::ENOTEMPTY);
                }
                model.entries(dir).remove(&name);
                Ok(())
            });
            same(what, fs.remove_dir(path), removed);
        }
        13 | 14 => rename(fs, model, handles, can, path, other, what),
        15 if can.symlinks => {
            let made = model.place(path, false).and_then(|(dir, name, entry)| {
                if entry.is_some() {
                    return Err(Errno::EEXIST);
                }
                let node = model.add(Node::Link(other.to_vec()));
                model.entries(dir).insert(name, node);
                Ok(())
            });
            same(what, fs.symlink(other, path), made);
        }
        16 if can.hard_links => {
            let node = match model.found(path, false) {
                // Whether a link can be linked to is up to the server.
                Ok(node) if matches!(model.nodes[node], Node::Link(_)) => return,
                Ok(node) if matches!(model.nodes[node], Node::Dir(_)) => return,
                found => found,
            };
            let made = node.and_then(|node| {
                let (dir, name, entry) = model.place(other, false)?;
                if entry.is_some() {
                    return Err(Errno::EEXIST);
                }
                model.entries(dir).insert(name, node);
                Ok(())
            });
            same(what, fs.hard_link(path, other), made);
        }
        17 => {
            let found = model.found(path, true);
            let metadata = same(what, fs.metadata(path), found.map(drop));
            if let (Some(metadata), Ok(node)) = (metadata, found) {
                match &model.nodes[node] {
                    Node::File(content) => assert_eq!(metadata.len(), content.len() as u64),
                    _ => assert!(metadata.is_dir(), "{what}"),
                }
            }
        }
        18 => {
            let made = create_dirs(model, path);
            same(what, fs.create_dir_all(path), made);
        }
        _ => {
            let from = model.found(path, true);
            let content = from.and_then(|node| match &model.nodes[node] {
                Node::File(content) => Ok(content.clone()),
                _ => Err(Errno::EISDIR),
            });
            let to = content.and_then(|content| {
                // Onto itself is where std and this library truncate first.
                if model.found(other, true) == from {
                    return Err(Errno::ENOTTY);
                }
                let node = model.create(other)?;
                *model.content(node) = content;
                Ok(())
            });
            if to != Err(Errno::ENOTTY) {
                same(what, fs.copy(path, other).map(drop), to);
            }
        }
    }
}

fn create_dirs(model: &mut Model, path: &[u8]) -> std::result::Result<(), Errno> {
    for end in (1..=path.len()).filter(|&end| end == path.len() || path[end] == b'/') {
        let last = end == path.len();
        let path = &path[..end];
        match model.place(path, false)? {
            // A link to a directory is as good as one.
            (_, _, Some(_)) => match model.found(path, true) {
                Ok(node) if model.dir(node).is_ok() => {}
                Ok(_) if !last => return Err(Errno::ENOTDIR),
                Err(errno) if !last && errno != Errno::ENOENT => return Err(errno),
                _ => return Err(Errno::EEXIST),
            },
            (dir, name, None) => {
                let node = model.add(Node::Dir(BTreeMap::new()));
                model.entries(dir).insert(name, node);
            }
        }
    }
    Ok(())
}

/// Something with a file that is open.
fn on_handle<F: OpenFile>(
    model: &mut Model,
    random: &mut Random,
    handles: &[Handle<F>],
    can: Abilities,
    op: usize,
    what: &str,
) {
    if handles.is_empty() {
        return;
    }
    let Handle { file, node } = &handles[random.below(handles.len())];
    let content = model.content(*node);
    match op {
        5 => {
            let at = random.below(content.len() + 200);
            let data = random_data(random);
            file.write_all_at(&data, at as u64).expect(what);
            put(content, at, &data);
        }
        6 if can.truncate => {
            let size = random.below(content.len() * 2 + 10);
            file.set_len(size as u64).expect(what);
            content.resize(size, 0);
        }
        7 if random.below(2) == 0 => {
            // In small pieces, from wherever the position is.
            let mut buffer = [0; 100];
            for _ in 0..random.below(200) {
                let at = file.stream_position().expect(what) as usize;
                let count = file.read(&mut buffer).expect(what);
                let from = content.get(at..).unwrap_or(&[]);
                assert_eq!(count == 0, from.is_empty(), "{what}");
                assert!(buffer[..count] == from[..count], "{what}, at {at}");
            }
        }
        7 => {
            let at = random.below(content.len() + 10);
            let mut buffer = vec![0; random.below(5000) + 1];
            let mut done = 0;
            loop {
                let count = file
                    .read_at(&mut buffer[done..], (at + done) as u64)
                    .expect(what);
                done += count;
                if count == 0 || done == buffer.len() {
                    break;
                }
            }
            let from = content.get(at..).unwrap_or(&[]);
            let wanted = &from[..from.len().min(buffer.len())];
            assert!(buffer[..done] == *wanted, "{what}");
        }
        _ => {
            let mut all = Vec::new();
            file.rewind().expect(what);
            file.read_to_end(&mut all).expect(what);
            assert!(all == *content, "{what}");
        }
    }
}

fn remove<N: TreeNode>(
    fs: &Fs<N>,
    model: &mut Model,
    handles: &[Handle<N::File>],
    can: Abilities,
    path: &[u8],
    what: &str,
) {
    let place = model.place(path, false);
    if let Ok((_, _, Some(entry))) = place
        && !can.open_unlinked
        && handles.iter().any(|handle| handle.node == entry)
    {
        return;
    }
    let removed = place.and_then(|(dir, name, entry)| {
        let entry = entry.ok_or(Errno::ENOENT)?;
        if matches!(model.nodes[entry], Node::Dir(_)) {
            return Err(Errno::EISDIR);
        }
        model.entries(dir).remove(&name);
        Ok(())
    });
    same(what, fs.remove_file(path), removed);
}

fn rename<N: TreeNode>(
    fs: &Fs<N>,
    model: &mut Model,
    handles: &[Handle<N::File>],
    can: Abilities,
    path: &[u8],
    other: &[u8],
    what: &str,
) {
    let replaced = model.found(other, false).ok();
    if !can.full_rename
        && (replaced.is_some()
            || path.rsplitn(2, |&byte| byte == b'/').nth(1)
                != other.rsplitn(2, |&byte| byte == b'/').nth(1))
    {
        return;
    }
    let open = |node| handles.iter().any(|handle| handle.node == node);
    if !can.open_unlinked && (replaced.is_some_and(open) || !handles.is_empty()) {
        return;
    }
    let renamed = model.rename(path, other);
    let real = fs.rename(path, other);
    // Which of several reasons a server names is up to it.
    assert_eq!(
        real.is_ok(),
        renamed.is_ok(),
        "{what}: {real:?}, {renamed:?}"
    );
}
