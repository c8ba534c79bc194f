//! The fuzz targets on stable Rust: each file of their corpora, and inputs near it, the same ones on
//! each run.

#![cfg(feature = "dns-01")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub
)]

#[path = "../fuzz/src/targets.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;

use targets::{TARGETS, Target};

/// The files of a target's corpus, in order.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = fs::read_dir(format!("fuzz/corpus/{target}"));
    let files = directory.unwrap_or_else(|error| panic!("{target} has no corpus: {error}"));
    let mut files: Vec<_> = files
        .map(|file| file.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

fn run(name: &str, target: Target, input: &[u8], from: &str) -> bool {
    catch_unwind(|| target(input)).unwrap_or_else(|_| {
        let input = input.escape_ascii();
        panic!("{name} does not survive this, made of {from}:\n{input}");
    })
}

#[test]
fn every_target_has_a_corpus_that_is_read() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        let read = files.iter().filter(|(file, input)| {
            assert!(input.len() <= 4_096, "{file} is large");
            run(name, *target, input, file)
        });
        assert!(read.count() > 0, "{name} reads none of its corpus");
        run(name, *target, b"", "nothing");
    }
}

#[test]
fn every_corpus_and_every_program_is_of_a_target() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let names = |path: &str| {
        let entries = fs::read_dir(path).unwrap();
        let names = entries.map(|entry| entry.unwrap().path());
        let names = names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
        names.collect::<BTreeSet<_>>()
    };
    assert_eq!(names("fuzz/corpus"), targets);
    assert_eq!(names("fuzz/fuzz_targets"), targets);
    let manifest = fs::read_to_string("fuzz/Cargo.toml").unwrap();
    for target in &targets {
        let bin = format!("[[bin]]\nname = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"\n");
        assert!(manifest.contains(&bin), "{target} is no program");
    }
}

#[test]
fn survives_what_is_near_the_corpus() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        // Those that sign or ask a server take longer.
        let rounds = match *name {
            "caa" | "txt" => 10,
            "import" | "jwk" | "private_key" => 40,
            "crl" | "csr" | "pem_chain" => 150,
            _ => 400,
        };
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for (file, seed) in &files {
            for _ in 0..rounds {
                let (_, other) = &files[random.below(files.len())];
                let input = mutated(seed, other, &mut random);
                run(name, *target, &input, file);
            }
        }
    }
}

/// A copy with one to four changes, as fuzzers make them.
fn mutated(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    const TELLING: &[&[u8]] = &[
        b"",
        b"\0",
        b"\xff",
        b"\x80",
        b"\"",
        b"\\",
        b"{",
        b"[",
        b"}",
        b"]",
        b",",
        b":",
        b"null",
        b"-1",
        b"1e999",
        b"18446744073709551616",
        b"\\ud800",
        b"\\u0000",
        b"\r\n",
        b"=",
        b";",
        b"%",
        b"\xc3\xa9",
        b"\xe2\x80\xae",
        b"\x30\x84\xff\xff\xff\xff",
    ];
    let mut input = seed.to_vec();
    for _ in 0..=random.below(4) {
        let place = random.below(input.len() + 1);
        match random.below(7) {
            0 => input.truncate(place),
            1 if place < input.len() => input[place] ^= 1 << random.below(8),
            2 if place < input.len() => input[place] = random.next() as u8,
            3 => {
                let part = TELLING[random.below(TELLING.len())];
                input.splice(place..place, part.iter().copied());
            }
            4 => {
                let end = place + random.below(input.len() - place + 1);
                input.drain(place..end);
            }
            5 => {
                let end = (place + random.below(64)).min(input.len());
                let part = input[place..end].to_vec();
                input.splice(place..place, part);
            }
            _ => {
                let start = random.below(other.len() + 1);
                input.truncate(place);
                input.extend(&other[start..]);
            }
        }
    }
    input
}

/// SplitMix64: the same numbers on each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
