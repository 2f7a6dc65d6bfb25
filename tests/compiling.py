"""How XLA compiles in tests: compilation takes most of their time."""

# Without optimization it takes half, and with the older emitters of loops three quarters of that,
# or half where programs are small. Children with the same flags read the programs of their parent.
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
