//! A kernel's drivers that fail, or answer with nonsense: the check of the platform says which, and a mount ends in an error.

mod kernel;

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{null, null_mut};

use kernel::{World, last_error, own, turn};
use xen9p_capi::*;

unsafe extern "C" fn note(context: *mut c_void, breach: *const c_char) {
    // SAFETY: the list of the test below; the text ends with a NUL.
    unsafe {
        let breaches: &mut Vec<String> = &mut *context.cast();
        breaches.push(CStr::from_ptr(breach).to_str().unwrap().into());
    }
}

/// References that no domain may map.
unsafe extern "C" fn grants_nothing(_: *mut c_void, _: u32, frame: u64) -> i64 {
    200 + frame as i64 % 200
}
/// A number that is no reference.
unsafe extern "C" fn grants_nonsense(_: *mut c_void, _: u32, _: u64) -> i64 {
    i64::MAX
}
unsafe extern "C" fn grants_no_more(_: *mut c_void, _: u32, _: u64) -> i64 {
    -28
}
/// Another page, and the same one each time.
unsafe extern "C" fn grants_another(context: *mut c_void, domain: u32, frame: u64) -> i64 {
    // SAFETY: as the library calls it.
    unsafe { own::grant(context, domain, frame ^ 1) }
}
/// The same reference for each page.
unsafe extern "C" fn grants_once(context: *mut c_void, domain: u32, frame: u64) -> i64 {
    thread_local!(static FIRST: Cell<Option<i64>> = const { Cell::new(None) });
    FIRST.get().unwrap_or_else(|| {
        // SAFETY: as the library calls it.
        let first = unsafe { own::grant(context, domain, frame) };
        FIRST.set(Some(first));
        first
    })
}
unsafe extern "C" fn never_ends(_: *mut c_void, _: u32) -> c_int {
    0
}
unsafe extern "C" fn claims_an_end(_: *mut c_void, _: u32) -> c_int {
    1
}

type Request =
    unsafe extern "C" fn(*mut c_void, u32, u32, *const c_void, usize, *mut c_void) -> i64;

/// Answers by this number alone, and writes nothing.
macro_rules! answers {
    ($($name:ident $answer:expr;)*) => {
        $(unsafe extern "C" fn $name(_: *mut c_void, _: u32, _: u32, _: *const c_void, _: usize, _: *mut c_void) -> i64 {
            $answer
        })*
    };
}
answers! {
    answers_too_much 4097;
    answers_endlessly i64::MAX;
    answers_nothing 0;
    answers_zeros 4096;
    answers_late -110;
    answers_no_error i64::MIN;
}

unsafe extern "C" fn never_watches(_: *mut c_void, _: *const c_char, _: *const c_char) -> c_int {
    -28
}

#[test]
fn what_breaks_the_contract_is_told_and_no_mount() {
    let _turn = turn();
    type Bend = fn(&mut xen9p_platform);
    fn asks(request: Request) -> impl Fn(&mut xen9p_platform) {
        move |platform| platform.store_request = Some(request)
    }
    let grants: [(Bend, &str); 6] = [
        (
            |it| {
                it.grant = Some(grants_nothing);
                it.end_grant = Some(claims_an_end);
            },
            "does not find a grant",
        ),
        (|it| it.grant = Some(grants_nonsense), "can't be granted"),
        (|it| it.grant = Some(grants_no_more), "can't be granted"),
        (
            |it| it.grant = Some(grants_another),
            "leads to another page",
        ),
        (
            |it| {
                it.grant = Some(grants_once);
                it.end_grant = Some(never_ends);
            },
            "two pages have one",
        ),
        (|it| it.end_grant = Some(never_ends), "can't be revoked"),
    ];
    let requests: [(Request, &str); 6] = [
        (answers_too_much, "can't be read"),
        (answers_endlessly, "can't be read"),
        (answers_nothing, "is no number"),
        (answers_zeros, "is no number"),
        (answers_late, "can't be read"),
        (answers_no_error, "can't be read"),
    ];
    type Bent = Box<dyn Fn(&mut xen9p_platform)>;
    let mut cases: Vec<(Bent, &str, bool)> = Vec::new();
    for (bend, breach) in grants {
        // A grant that can't be ended harms nothing: its page is kept.
        let mounts = breach == "can't be revoked";
        cases.push((Box::new(bend), breach, mounts));
    }
    for (request, breach) in requests {
        cases.push((Box::new(asks(request)), breach, false));
    }
    for (index, (bend, expected, mounts)) in cases.iter().enumerate() {
        let world = World::new().with_drivers();
        let mut platform = world.drivers();
        bend(&mut platform);
        let mut breaches: Vec<String> = Vec::new();
        let mut fs = 0;
        // SAFETY: all pointers are valid.
        unsafe {
            assert_eq!(xen9p_init(&platform), 0);
            let found = xen9p_check_platform(Some(note), (&raw mut breaches).cast());
            assert!(found > 0 && found as usize == breaches.len(), "{index}");
            assert!(
                breaches.iter().any(|it| it.contains(expected)),
                "{index}: {expected}: {breaches:?}"
            );
            assert_eq!(xen9p_exit(), 0);
            // A caller that does not ask gets an error of the first call that meets it.
            assert_eq!(xen9p_init(&platform), 0);
            let result = xen9p_mount(null(), null(), &mut fs, null_mut());
            assert_eq!(result == 0, *mounts, "{index}: {result}");
            assert!(*mounts || !last_error().is_empty());
            assert_eq!(xen9p_exit(), 0);
        }
    }
}

#[test]
fn a_watch_that_is_refused_is_an_error() {
    let _turn = turn();
    let world = World::new().with_drivers();
    let platform = xen9p_platform {
        store_watch: Some(never_watches),
        ..world.drivers()
    };
    let mut fs = 0;
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(xen9p_init(&platform), 0);
        assert!(xen9p_mount(null(), null(), &mut fs, null_mut()) < 0);
        assert!(!last_error().is_empty());
        assert_eq!(xen9p_exit(), 0);
        // A watch that is gone, or told of twice, or none of ours, is no error; a token that is none of ours by its form is.
        assert_eq!(xen9p_init(&world.drivers()), 0);
        assert_eq!(
            xen9p_mount(null(), null(), &mut fs, null_mut()),
            0,
            "{}",
            last_error()
        );
        for _ in 0..2 {
            assert_eq!(xen9p_watch_fired(c"/x".as_ptr(), c"999".as_ptr()), 0);
        }
        assert_eq!(xen9p_watch_fired(c"/x".as_ptr(), c"y".as_ptr()), -22);
        assert_eq!(xen9p_watch_fired(null(), c"1".as_ptr()), -14);
        assert_eq!(xen9p_exit(), 0);
        assert_eq!(xen9p_watch_fired(c"/x".as_ptr(), c"1".as_ptr()), -6);
    }
}
