// Empty: it exists so that cargo sees a library target of the package; the programs are in main.rs.
#![no_std]
