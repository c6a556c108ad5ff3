//! scratch
fn main() {
    for f in std::env::args().skip(1) {
        match gateway_config::load(std::path::Path::new(&f), &Default::default()) {
            Ok((c, w)) => {
                println!("OK {}", c.hash);
                for p in w {
                    println!("{p}");
                }
                if std::env::var_os("DBG").is_some() {
                    println!("{c:#?}");
                }
            }
            Err(p) => println!("{p}"),
        }
    }
}
