//! What makes the methods of a face, blocking or asynchronous, of a list of operations.

/// Methods that do the work.
macro_rules! asynchronous {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty = $work:ident($($pass:expr),*);)*) => {$(
        $(#[$doc])*
        pub async fn $name(&self, $($arg: $ty),*) -> Result<$out> {
            self.$work($($pass),*).await.map_err(failed)
        }
    )*};
}

/// Methods that have the work done, and wait for it.
macro_rules! blocking {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty = $work:ident($($pass:expr),*);)*) => {$(
        $(#[$doc])*
        pub fn $name(&self, $($arg: $ty),*) -> Result<$out> {
            block_on(self.inner.driver(), self.inner.$work($($pass),*)).map(Into::into)
        }
    )*};
}

/// Methods that have the work done by the one of [`waiting_for`], and note what failed, with its paths.
macro_rules! blocking_by_path {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty = $work:ident($($pass:expr),*);)*) => {$(
        $(#[$doc])*
        pub fn $name(&self, $($arg: $ty),*) -> Result<$out> {
            let result = self.$work($($pass),*);
            if let Err(error) = &result {
                self.last.note(stringify!($name), paths_of!(($($arg),*) $($arg),*), *error);
            }
            result.map(Into::into)
        }
    )*};
}

/// Functions that wait for the work of the same name. They know nothing of how paths are given: a program has one of each, where
/// the methods that call them are there for each type of path, and in each crate.
macro_rules! waiting_for {
    ($(fn $work:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {$(
        fn $work(&self, $($arg: $ty),*) -> Result<$out> {
            block_on(self.inner.driver(), self.inner.$work($($arg),*))
        }
    )*};
}

/// The paths among the arguments of an operation, which are given twice, since a macro reads a name or hands it on.
macro_rules! paths_of {
    ((from, to) $from:ident, $to:ident) => {
        [$from.as_ref(), $to.as_ref()]
    };
    ((original, link) $original:ident, $link:ident) => {
        [$original.as_ref(), $link.as_ref()]
    };
    ((target, link) $target:ident, $link:ident) => {
        [$target.as_ref(), $link.as_ref()]
    };
    (($($name:ident),*) $path:ident $(, $rest:ident)*) => {
        [$path.as_ref(), b""]
    };
}
