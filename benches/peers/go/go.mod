module greenloom-bench-go

go 1.25
