"""Run every benchmark."""

from benchmarks import (
    effects,
    effects_quality,
    import_time,
    latency,
    postprocessing,
    stages,
    validation,
)

if __name__ == "__main__":
    import_time.main()
    stages.main()
    latency.main()
    postprocessing.main()
    effects.main()
    effects_quality.main()
    validation.main()
