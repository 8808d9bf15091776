# The tasks of the repository by name: `just` lists them. Each is a script that also runs by itself.

_list:
    @just --list --unsorted

# everything that must hold before a change lands
ci:
    .ci/run

# every test, or those of the arguments: just test -p larkauth-lark
test *arguments:
    scripts/test {{ arguments }}

# formatting, then lints of everything
lint:
    cargo fmt --all --check
    cargo clippy --locked --workspace --all-targets -- -D warnings

# import cycles, words to guess at, banned crates
check:
    scripts/check-modules
    scripts/check-language
    scripts/check-deps

# the documentation of the crates, warnings are errors
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

# renews what is made from the code: query data, contracts, settings page
generate *arguments:
    scripts/generate {{ arguments }}

# a private PostgreSQL and RabbitMQ in the background: start, env or stop
services action:
    @scripts/services {{ action }}

# the four programs, optimized
release:
    cargo build --locked --release --workspace --bins

# measures larkauth standalone, writes docs/performance.md
performance:
    scripts/performance

# a page to click in, with a simulated Lark
demo *arguments:
    cargo run --locked --bin larkauth -- demo {{ arguments }}
