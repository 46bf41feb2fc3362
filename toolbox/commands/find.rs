//! `find`, and going through trees for other commands.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xen9p::fs::{self, FileType, Metadata, SystemTime};
use xen9p::ns::DirEntry;

use super::args::digits;
use super::place::{Place, Shown, is_of_the_path};
use super::{Args, Fail, Shell, glob};

/// What a walk has come to.
pub struct Found<'a> {
    pub entry: &'a DirEntry,
    /// How far below the top; 1 for what is in it.
    pub depth: usize,
}

impl Shell<'_> {
    /// Hands on all that is below a directory, to a depth. What can't be listed is told, and does not end the walk.
    pub fn walk(
        &mut self,
        top: &Place,
        most: usize,
        mut each: impl FnMut(&mut Self, Found<'_>) -> Result<(), Fail>,
    ) -> Result<(), Fail> {
        let mut walk = top
            .ns
            .walk_dir(&top.path)
            .map_err(|error| top.fail(error))?;
        while let Some(next) = walk.next() {
            match next {
                Ok(entry) => {
                    let depth = walk.depth() + 1;
                    if depth >= most {
                        walk.skip_dir(&entry);
                    }
                    each(
                        self,
                        Found {
                            entry: &entry,
                            depth,
                        },
                    )?;
                }
                Err(error) => {
                    let fail = top.at(walk.directory().to_vec()).fail(error);
                    match is_of_the_path(error) {
                        true => self.settle(Err(fail))?,
                        false => return Err(fail),
                    }
                }
            }
            self.check_output()?;
        }
        Ok(())
    }
}

/// What has to be true of what is listed.
enum Test<'a> {
    Name(&'a str, bool),
    Path(&'a str),
    Kind(&'a str),
    /// How the size compares, in units of so many bytes, rounded up.
    Size(core::cmp::Ordering, u64, u64),
    Newer(SystemTime),
    Empty,
}

/// What is known of a file, or can be asked for.
enum Attributes<'a> {
    Known(Metadata),
    Of(&'a DirEntry),
}

impl Attributes<'_> {
    fn all(&self) -> fs::Result<Metadata> {
        match self {
            Attributes::Known(found) => Ok(*found),
            Attributes::Of(entry) => entry.metadata(),
        }
    }

    /// What most listings tell, so that there is nothing to ask for.
    fn kind(&self) -> fs::Result<FileType> {
        match self {
            Attributes::Known(found) => Ok(found.file_type()),
            Attributes::Of(entry) => entry.file_type(),
        }
    }
}

struct Find<'a> {
    /// Each may have to be false instead.
    tests: Vec<(Test<'a>, bool)>,
    least: usize,
    most: usize,
}

pub fn find(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let is_test = |word: &&str| word.starts_with('-') || matches!(*word, "!" | "(" | ")");
    let start = args.operands.iter().position(is_test);
    let (paths, words) = args.operands.split_at(start.unwrap_or(args.operands.len()));
    let find = Find::parse(shell, words)?;
    let paths = if paths.is_empty() { &["."] } else { paths };
    shell.each(paths, |shell, top| {
        let found = top.symlink_metadata()?;
        let name = top.name();
        if find.shows(top, name, 0, &Attributes::Known(found))? {
            shell.say(format_args!("{top}\n"));
        }
        if !found.is_dir() || find.most == 0 {
            return Ok(());
        }
        shell.walk(top, find.most, |shell, Found { entry, depth }| {
            let place = top.at(entry.path());
            let attributes = Attributes::Of(entry);
            match find.shows(&place, entry.file_name(), depth, &attributes) {
                Ok(true) => shell.say(format_args!("{place}\n")),
                Ok(false) => {}
                Err(fail) => shell.settle(Err(fail))?,
            }
            Ok(())
        })
    })
}

impl<'a> Find<'a> {
    fn parse(shell: &mut Shell<'_>, words: &[&'a str]) -> Result<Find<'a>, Fail> {
        let mut find = Find {
            tests: Vec::new(),
            least: 0,
            most: usize::MAX,
        };
        let mut words = words.iter();
        let mut not = false;
        while let Some(&word) = words.next() {
            if matches!(word, "!" | "-not") {
                not = !not;
                continue;
            }
            if matches!(word, "-print" | "-a" | "-and") {
                continue;
            }
            let mut value = || match words.next() {
                Some(value) => Ok(*value),
                None => Err(Fail::usage(format_args!("{word} needs a value"))),
            };
            let number = |text: &str| {
                let number = digits(text).and_then(|number| usize::try_from(number).ok());
                number.ok_or_else(|| Fail::usage(format_args!("{word}: '{text}' is no number")))
            };
            let test = match word {
                "-name" => Test::Name(value()?, false),
                "-iname" => Test::Name(value()?, true),
                "-path" => Test::Path(value()?),
                "-type" => {
                    let kind = value()?;
                    if kind.is_empty() || kind.contains(|c| !"fdlbcps,".contains(c)) {
                        return Err(Fail::usage(format_args!("-type: unknown type '{kind}'")));
                    }
                    Test::Kind(kind)
                }
                "-size" => size(value()?)?,
                "-newer" => Test::Newer(shell.place(value()?)?.metadata()?.modified()),
                "-empty" => Test::Empty,
                "-mindepth" => {
                    find.least = number(value()?)?;
                    continue;
                }
                "-maxdepth" => {
                    find.most = number(value()?)?;
                    continue;
                }
                other => return Err(Fail::usage(format_args!("'{other}' is not there"))),
            };
            find.tests.push((test, core::mem::take(&mut not)));
        }
        Ok(find)
    }

    /// Whether `find` lists it.
    fn shows(
        &self,
        place: &Place,
        name: &[u8],
        depth: usize,
        attributes: &Attributes<'_>,
    ) -> Result<bool, Fail> {
        if depth < self.least {
            return Ok(false);
        }
        let metadata = || attributes.all().map_err(|error| place.fail(error));
        for (test, not) in &self.tests {
            let is = match test {
                Test::Name(pattern, any_case) => {
                    let name = String::from_utf8_lossy(name);
                    match any_case {
                        true => {
                            glob::matches(&pattern.to_ascii_lowercase(), &name.to_ascii_lowercase())
                        }
                        false => glob::matches(pattern, &name),
                    }
                }
                Test::Path(pattern) => glob::matches(pattern, &format!("{place}")),
                Test::Kind(kinds) => {
                    let kind = attributes.kind().map_err(|error| place.fail(error))?;
                    let letter = match kind.letter() {
                        '-' => 'f',
                        letter => letter,
                    };
                    kinds.contains(letter)
                }
                Test::Size(order, count, unit) => {
                    metadata()?.len().div_ceil(*unit).cmp(count) == *order
                }
                Test::Newer(time) => metadata()?.modified() > *time,
                Test::Empty => {
                    let found = metadata()?;
                    match found.is_dir() {
                        true => super::moving::is_empty(place)?,
                        false => found.is_file() && found.len() == 0,
                    }
                }
            };
            if is == *not {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn size(text: &str) -> Result<Test<'_>, Fail> {
    use core::cmp::Ordering::{Equal, Greater, Less};

    let (order, number) = match text.split_at_checked(1) {
        Some(("+", number)) => (Greater, number),
        Some(("-", number)) => (Less, number),
        _ => (Equal, text),
    };
    let (count, unit) = match number.char_indices().next_back() {
        Some((at, 'c')) => (&number[..at], 1),
        Some((at, 'k')) => (&number[..at], 1 << 10),
        Some((at, 'M')) => (&number[..at], 1 << 20),
        Some((at, 'G')) => (&number[..at], 1 << 30),
        _ => (number, 512),
    };
    let count = digits(count);
    let count = count.ok_or_else(|| {
        Fail::usage(format_args!(
            "-size: '{}' is no size",
            Shown(text.as_bytes())
        ))
    })?;
    Ok(Test::Size(order, count, unit))
}
