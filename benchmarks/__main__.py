"""Run every benchmark."""

from benchmarks import import_time, postprocessing, stages

if __name__ == "__main__":
    import_time.main()
    stages.main()
    postprocessing.main()
