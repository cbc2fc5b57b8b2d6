package shards
import ("testing";"os";"strconv";"bytes";"fmt";"coeval/schemas";"github.com/parquet-go/parquet-go")
func TestDbg(t *testing.T){
 whole := encode(t, Judgments, exampleJudgments())
 i,_ := strconv.Atoi(os.Getenv("BYTE"))
 if os.Getenv("BYTE")=="" { os.WriteFile("/tmp/fs/whole.parquet", whole, 0o600); f:=open(t,whole); fmt.Println(len(whole)); for _,c := range f.Metadata().RowGroups[0].Columns { fmt.Println(c.MetaData.PathInSchema, c.MetaData.DictionaryPageOffset, c.MetaData.DataPageOffset, c.MetaData.TotalCompressedSize)}; return }
 d := bytes.Clone(whole); d[i]^=0x55
 f, err := parquet.OpenFile(bytes.NewReader(d), int64(len(d)), parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
 if err == nil { for _,c := range f.Metadata().RowGroups[0].Columns { fmt.Println(c.MetaData.PathInSchema, c.MetaData.Type, c.MetaData.Encoding, c.MetaData.DictionaryPageOffset, c.MetaData.DataPageOffset, c.MetaData.TotalCompressedSize)} } else { fmt.Println(err) }
 err = readTable(t.Context(), bytes.NewReader(d), int64(len(d)), "d.parquet", func(*schemas.JudgmentRow) error { return nil })
 fmt.Println(err)
}
