#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    certwright_fuzz::targets::mac_key(data);
});
