//! Tasks that end before whoever started them: scopes, groups, pools, services, and the reports of those that do not.

mod builder;
mod group;
mod leaks;
mod pool;
mod run_all;
mod scope;
mod scope_cancel;
mod testing_run;
