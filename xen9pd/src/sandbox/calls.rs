//! The system calls that a process in the sandbox makes.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// Calls that are allowed whatever their arguments: files by descriptor, data, threads, memory, time.
const ALLOWED: &[libc::c_long] = &[
    // Files.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_readlinkat,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_fsetxattr,
    libc::SYS_fremovexattr,
    libc::SYS_fcntl,
    libc::SYS_umask,
    // Data.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    // Sockets that are there: none can be made.
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    // Waiting.
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Who a thread is.
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_geteuid,
    libc::SYS_getegid,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads: how they begin and end.
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_tgkill,
    libc::SYS_getrandom,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The same on machines of an older design, whose C library uses them.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = &[libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];

/// What the kernel is given to restrict a process, in this order.
#[derive(Debug)]
pub(super) struct Filters([BpfProgram; 2]);

impl Filters {
    /// Restricts this thread, and those it will start.
    pub fn apply(&self) -> Result<(), String> {
        let mut filters = self.0.iter();
        filters.try_for_each(|filter| apply_filter(filter).map_err(|error| error.to_string()))
    }
}

/// Filters for the calls listed here and the requests of ioctl in `ioctls`.
pub(super) fn compile(ioctls: &[u32]) -> Result<Filters, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let arch = std::env::consts::ARCH.try_into();
    let arch = arch.map_err(|error: seccompiler::BackendError| text(&error))?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED
        .iter()
        .chain(ALLOWED_HERE)
        .map(|&call| (call, Vec::new()))
        .collect();
    let conditional = conditions(ioctls).map_err(|error| text(&error))?;
    rules.extend(conditional);
    let listed = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        arch,
    )
    .map_err(|error| text(&error))?;
    // What a filter can't look into: the flags of clone3 are in memory. Without it, the C library takes clone.
    let no_clone3 = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        arch,
    )
    .map_err(|error| text(&error))?;
    // Of all filters' words the strictest counts. The list comes last: it does not have the call that adds filters.
    let program = |filter: SeccompFilter| {
        let program: Result<BpfProgram, _> = filter.try_into();
        program.map_err(|error: seccompiler::BackendError| text(&error))
    };
    Ok(Filters([program(no_clone3)?, program(listed)?]))
}

/// Calls that are allowed with some arguments only.
fn conditions(
    ioctls: &[u32],
) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    use SeccompCmpOp::{Eq, MaskedEq};
    let one = |condition: SeccompCondition| SeccompRule::new(vec![condition]);
    let mut rules = BTreeMap::new();
    // New memory that can be run would be a way around all of this.
    let not_executable = |argument| {
        let mask = libc::PROT_EXEC as u64;
        one(SeccompCondition::new(argument, Dword, MaskedEq(mask), 0)?)
    };
    rules.insert(libc::SYS_mmap, vec![not_executable(2)?]);
    rules.insert(libc::SYS_mprotect, vec![not_executable(2)?]);
    // Threads, but no processes.
    let thread = libc::CLONE_THREAD as u64;
    let thread = SeccompCondition::new(0, Qword, MaskedEq(thread), thread)?;
    rules.insert(libc::SYS_clone, vec![one(thread)?]);
    let name = SeccompCondition::new(0, Dword, Eq, libc::PR_SET_NAME as u64)?;
    rules.insert(libc::SYS_prctl, vec![one(name)?]);
    if !ioctls.is_empty() {
        let allowed = ioctls
            .iter()
            .map(|&request| one(SeccompCondition::new(1, Dword, Eq, request.into())?));
        rules.insert(libc::SYS_ioctl, allowed.collect::<Result<_, _>>()?);
    }
    Ok(rules)
}
