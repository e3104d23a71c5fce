"""File formats: each reader turns one kind of file into arrays, and says what is wrong with it.

idx leaf femnist_hub motionsense_files        of the data sets
tables                                        folders of tables, as one array each
table_file csv_table npz_table xlsx_table parquet_table    a table in a file
images                                        image files, as bytes of one size
labelled_table                                one file of examples and labels: which column is what
named_table csv_named xlsx_named              a table whose columns have names and kinds of their own
csv_layout decimal_mark numerals              what a text file is like, and how it says numbers
weight_column                                 the weights of its rows, taken out of it
sheet_xml                                     what a sheet has beside its values
file_kind                                     what a file is, whatever its name says
download                                      a file fetched once
"""
